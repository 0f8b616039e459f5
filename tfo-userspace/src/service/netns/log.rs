//! Log messages about namespaces, each written once.

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    time::{Duration, Instant},
};

use tracing::{error, info, info_span, warn};

use super::{
    messages::Failure,
    scan::{Scan, max_matched},
};
use crate::config::NamespaceConfig;

/// The time after which a file that is no namespace is reported: `ip netns add` makes the file
/// before it mounts the namespace.
const PATIENCE: Duration = Duration::from_secs(2);
/// Names in a line, at most.
const NAMED: usize = 3;

/// The messages that were logged.
#[derive(Default)]
pub(super) struct Told {
    /// The last error of a namespace, by name.
    errors: BTreeMap<String, String>,
    /// Files that are no namespace: since when, and whether that was told.
    ignored: BTreeMap<PathBuf, (Instant, bool)>,
    /// Patterns that matched nothing.
    empty: BTreeSet<String>,
    left_out: usize,
}

impl Told {
    /// Tells an error of a namespace. `quiet` only remembers it.
    pub(super) fn error(&mut self, name: &str, text: &str, quiet: bool) {
        if self.errors.get(name).is_none_or(|last| last != text) {
            if !quiet {
                error!("{text}");
            }
            self.errors.insert(name.to_owned(), text.to_owned());
        }
    }

    /// The namespace is attached, or it is another one now.
    pub(super) fn forget(&mut self, name: &str) {
        self.errors.remove(name);
    }

    /// Tells what a look found that is not to be taken. `quiet` only remembers errors.
    pub(super) fn scan(&mut self, scan: &Scan, sections: &[NamespaceConfig], quiet: bool) {
        for (name, text) in &scan.absent {
            self.error(name, text, quiet);
        }
        self.ignored
            .retain(|path, _| scan.ignored.contains_key(path));
        for (path, reason) in &scan.ignored {
            let (since, told) = self
                .ignored
                .entry(path.clone())
                .or_insert_with(|| (Instant::now(), false));
            if !*told && since.elapsed() >= PATIENCE {
                warn!("{reason}");
                *told = true;
            }
        }
        let all = scan.left_out.len();
        if all > 0 && self.left_out == 0 {
            let some = &scan.left_out[..all.min(NAMED)];
            let more = if all > NAMED { " and others" } else { "" };
            warn!(
                "{all} network namespaces are left out, as patterns take {} at most: {}{more}: use narrower patterns",
                max_matched(),
                some.join(", ")
            );
        }
        self.left_out = all;
        for pattern in sections.iter().filter(|section| section.pattern.is_some()) {
            let name = pattern.name.as_deref().unwrap_or_default();
            if scan.found.iter().any(|found| found.section == name) {
                self.empty.remove(name);
            } else if self.empty.insert(name.to_owned()) {
                info!(
                    "network namespaces {name}: there is none now: each is attached when it comes"
                );
            }
        }
    }
}

/// Logs failures, each with its namespace.
pub(in crate::service) fn log_failures(failures: &BTreeMap<String, Failure>) {
    for (name, failure) in failures.iter().filter(|(_, failure)| !failure.logged) {
        let _netns = info_span!("netns", name).entered();
        error!("{}", failure.text);
    }
}
