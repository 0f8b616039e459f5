//! The keeper's view of its namespaces, for scrapes and for the status line.

use super::{keeper::Keeper, messages::Status, remote::RemoteHandle, running::Running};
use crate::metrics::ScrapeTarget;

/// A configured namespace, for scrapes.
#[derive(Clone)]
pub(in crate::service) enum Place {
    /// Its process is there.
    Process(ScrapeTarget, RemoteHandle),
    /// There is none, and why.
    Absent(ScrapeTarget, String),
}

/// The state of a section for the status line.
pub(in crate::service) enum SectionStatus {
    /// An exact name without a namespace.
    Absent,
    Exact(Status),
    /// The namespaces that a pattern matches.
    Pattern {
        attached: usize,
        waiting: usize,
    },
}

impl Keeper {
    /// All namespaces, in the order of the configuration, for scrapes.
    pub(in crate::service) fn places(&self) -> Vec<Place> {
        let mut places = Vec::new();
        for section in &self.sections {
            let Some(name) = &section.name else { continue };
            let target = |name: &str| ScrapeTarget {
                netns: name.to_owned(),
                interfaces: section.interfaces.clone(),
                ports: Vec::new(),
            };
            let running = self.running.values();
            let running = running.filter(|running| running.found.section == *name);
            places.extend(running.map(|running| {
                let target = target(&running.found.name);
                Place::Process(target, running.remote.handle())
            }));
            if section.pattern.is_none() && !self.running.contains_key(name) {
                let reason = self.scan.absent.get(name).cloned();
                let reason =
                    reason.unwrap_or_else(|| "it has no process yet: see the log".to_owned());
                places.push(Place::Absent(target(name), reason));
            }
        }
        places
    }

    /// The configuration names other namespaces than the service's own.
    pub(in crate::service) fn has_sections(&self) -> bool {
        self.sections.iter().any(|section| section.name.is_some())
    }

    /// The number of namespaces that wait for a process.
    pub(in crate::service) fn queued(&self) -> usize {
        let found = self.scan.found.iter();
        // An exact name has its place without one.
        let by_pattern = found.filter(|found| found.name != found.section);
        by_pattern
            .filter(|found| !self.running.contains_key(&found.name))
            .count()
    }

    /// The number of namespaces that are too many.
    pub(in crate::service) fn left_out(&self) -> usize {
        self.scan.left_out.len()
    }

    /// Returns the state of each section for the status line.
    pub(in crate::service) fn statuses(&self) -> impl Iterator<Item = (&str, SectionStatus)> {
        self.sections.iter().filter_map(|section| {
            let name = section.name.as_deref()?;
            let of = |running: &&Running| running.found.section == name;
            let running = self.running.values().filter(of);
            let mut all: Vec<_> = running.map(|running| running.remote.status()).collect();
            Some((
                name,
                if section.pattern.is_none() {
                    all.pop()
                        .map_or(SectionStatus::Absent, SectionStatus::Exact)
                } else {
                    let attached = all.iter().filter(|it| !it.attached.is_empty()).count();
                    SectionStatus::Pattern {
                        attached,
                        waiting: all.len() - attached,
                    }
                },
            ))
        })
    }
}
