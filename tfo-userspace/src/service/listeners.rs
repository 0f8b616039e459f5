//! Fast Open for the listeners of configured ports, also for those that come later.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::{Duration, Instant},
};

use tracing::{info, warn};

use super::{listener_helper::ListenerHelper, repeated::log_new};
use crate::{
    config::NamespaceConfig,
    kernel::sysctl,
    listeners::{self, Change, Target},
};

/// The time between two looks at the listeners, and between two attempts at one that was refused.
const LOOK: Duration = Duration::from_secs(1);
const RETRY: Duration = Duration::from_secs(30);

/// Keeps Fast Open on at the listeners of a namespace.
pub(super) struct ListenerKeeper {
    /// `None` if no section named listeners when the service had its capabilities.
    helper: Option<ListenerHelper>,
    /// The listeners that were changed, by `SO_COOKIE`; and when to try those again that were refused.
    known: BTreeMap<u64, Option<Instant>>,
    looked: Option<Instant>,
    /// Refusals that were logged, by `SO_COOKIE`.
    told: BTreeMap<u64, String>,
    /// Why the listeners cannot be changed.
    failed: Option<String>,
}

impl ListenerKeeper {
    pub(super) const fn new(helper: Option<ListenerHelper>) -> Self {
        Self {
            helper,
            known: BTreeMap::new(),
            looked: None,
            told: BTreeMap::new(),
            failed: None,
        }
    }

    /// Why listeners that the configuration names are without Fast Open.
    pub(super) fn refused(&self) -> Option<String> {
        self.failed
            .clone()
            .or_else(|| self.told.values().next().cloned())
    }

    /// Has another configuration come into force at the next look. What was set stays.
    pub(super) fn apply(&mut self) {
        *self = Self::new(self.helper.take());
    }

    /// Looks for listeners that are new, if the last look was a second ago. To be called in the namespace's thread.
    pub(super) fn tick(&mut self, config: &NamespaceConfig) {
        if config.listeners.is_none() || self.looked.is_some_and(|at| at.elapsed() < LOOK) {
            return;
        }
        self.looked = Some(Instant::now());
        let failed = self.look(config).err();
        log_new(&mut self.failed, "listeners", failed);
    }

    fn look(&mut self, config: &NamespaceConfig) -> Result<(), String> {
        let Some(ports) = &config.listeners else {
            return Ok(());
        };
        let Some(helper) = self.helper.clone() else {
            return Err("setting TCP_FASTOPEN in other processes takes a helper that is started with the service: restart it".to_owned());
        };
        let wanted = |port| {
            let rule = ports.get(&port)?;
            Some((rule.queue, rule.process.clone()))
        };
        let present = listeners::on_port(&wanted).map_err(|error| error.to_string())?;
        let cookies: BTreeSet<_> = present.iter().map(|target| target.cookie).collect();
        self.known.retain(|cookie, _| cookies.contains(cookie));
        self.told.retain(|cookie, _| cookies.contains(cookie));
        let now = Instant::now();
        let is_due = |target: &Target| match self.known.get(&target.cookie) {
            None => true,
            Some(retry) => retry.is_some_and(|at| at <= now),
        };
        let due: Vec<_> = present.into_iter().filter(is_due).collect();
        if due.is_empty() {
            return Ok(());
        }
        let mode = sysctl::mode().map_err(|error| error.to_string())?;
        if mode.no_cookie() {
            return Err(format!(
                "not changed: they take data without a cookie, also from a spoofed address (net.ipv4.tcp_fastopen = {}): clear bit 0x200",
                mode.0
            ));
        }
        for change in helper.change(&due)? {
            self.record(change, now);
        }
        Ok(())
    }

    fn record(&mut self, change: Change, now: Instant) {
        let cookie = change.target.cookie;
        let name = change.target.name();
        let refusal = match change.result {
            Ok((before, after)) => {
                self.told.remove(&cookie);
                self.known.insert(cookie, None);
                let process = change.process.unwrap_or_default();
                let pid = change.pid.unwrap_or_default();
                if before != after {
                    info!("{name} of {process} ({pid}): Fast Open queue {before}, now {after}");
                }
                let wanted = change.target.queue;
                if after < wanted {
                    warn!(
                        "{name}: its Fast Open queue is {after}, not {wanted}: net.core.somaxconn there is lower: raise it, or configure less"
                    );
                }
                return;
            }
            Err(refusal) => refusal,
        };
        self.known.insert(cookie, Some(now + RETRY));
        let text = format!("{name}: {refusal}");
        if self.told.get(&cookie) != Some(&text) {
            warn!("no Fast Open: {text}");
        }
        self.told.insert(cookie, text);
    }
}
