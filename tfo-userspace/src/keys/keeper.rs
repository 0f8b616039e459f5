//! Keeps the keys of one namespace as its source plans them, and detects changes by others.

use std::{fmt::Display, time::Duration};

use tfo_common::fastopen::KeySet;
use tracing::{error, info, warn};

use super::{
    endpoints::KeyEndpoints,
    report::KeyReport,
    schedule::KeyPlan,
    source::{Authority, KeySource, SourceStart},
};
use crate::{
    kernel::clock::Now,
    model::{Fingerprint, KeyPair},
};

/// The reaction to a change of the kernel's keys by another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnForeignChange {
    /// Install the source's keys again.
    #[default]
    Restore,
    /// Keep the new ones until the source's next change.
    Follow,
}

/// The keys that were in force before the controller began.
#[derive(Clone, Default)]
pub struct InitialKeys {
    /// The kernel's.
    pub pair: Option<KeyPair>,
    /// Those that the data path accepts.
    pub accepted: Option<KeySet>,
    /// The time for which the primary key has been primary.
    pub age: Option<Duration>,
    /// The data path was attached before: clients hold cookies that another controller answered for.
    pub taken_over: bool,
}

/// Keeps the keys of one namespace. [`Keeper::tick`] is to be called about twice a second, and whenever something
/// may have changed.
pub struct Keeper {
    source: Box<dyn KeySource>,
    on_foreign_change: OnForeignChange,
    /// The plan that was installed last.
    plan: Option<KeyPlan>,
    /// The kernel's pair after the last change, by whomever.
    expected: Option<KeyPair>,
    /// The time at which the primary key changed, by [`Now::boot`].
    since: Duration,
    report: KeyReport,
}

impl Keeper {
    /// Changes nothing before the first [`Keeper::tick`]. `open` makes the source.
    pub fn new(
        initial: InitialKeys,
        on_foreign_change: OnForeignChange,
        now: Now,
        open: impl FnOnce(SourceStart) -> Box<dyn KeySource>,
    ) -> Self {
        let since = now.boot.saturating_sub(initial.age.unwrap_or_default());
        let last = initial.pair.as_ref().map(|pair| pair.primary);
        let source = open(SourceStart {
            in_force: KeyPlan::in_force(initial.pair.clone(), initial.accepted),
            since,
            last_primary: last.filter(|_| initial.taken_over),
            now,
        });
        Self {
            report: KeyReport {
                source: source.name(),
                ..KeyReport::default()
            },
            source,
            on_foreign_change,
            plan: None,
            expected: initial.pair,
            since,
        }
    }

    /// Changes to another source, or to another interval. The primary key stays accepted for as long as the kernel
    /// has room for it; see [`super::SecretSchedule`].
    pub fn configure(
        &mut self,
        on_foreign_change: OnForeignChange,
        now: Now,
        open: impl FnOnce(SourceStart) -> Box<dyn KeySource>,
    ) {
        let plan = self.plan.take();
        self.source = open(SourceStart {
            in_force: plan.or_else(|| KeyPlan::in_force(self.expected.clone(), None)),
            since: self.since,
            last_primary: self.expected.as_ref().map(|pair| pair.primary),
            now,
        });
        self.on_foreign_change = on_foreign_change;
        self.report.source = self.source.name();
    }

    /// The state of the keys, for logs and metrics.
    pub fn report(&self) -> KeyReport {
        self.report.clone()
    }

    /// The time until the next change; `None` where it is overdue, or no clock decides.
    pub fn until_next(&self, now: Now) -> Option<Duration> {
        let due = self.source.next_change(now)?;
        due.checked_sub(now.boot).filter(|left| !left.is_zero())
    }

    /// Installs the source's plan where it is not in force, and looks for changes by others. A failure changes
    /// nothing, is logged once, and is tried again at the next call.
    pub fn tick<E: KeyEndpoints>(&mut self, endpoints: &mut E, now: Now) {
        let refreshed = self.source.refresh();
        let result = self.advance(endpoints, now).and(refreshed);
        match (&result, &self.report.last_error) {
            (Err(error), last) if last.as_ref() != Some(error) => {
                error!("{error}");
                self.report.failures += 1;
            }
            (Ok(()), Some(_)) => info!("keys: the last error is resolved"),
            _ => {}
        }
        self.report.last_error = result.err();
        let primary = self.expected.as_ref().map(|pair| &pair.primary);
        self.report.primary = primary.map(Fingerprint::of);
        self.report.since = Some(now.wall_at(self.since));
        self.report.next = self.source.next_change(now).map(|due| now.wall_at(due));
        self.source
            .observe(self.expected.as_ref(), self.report.last_error.as_deref());
    }

    fn advance<E: KeyEndpoints>(&mut self, endpoints: &mut E, now: Now) -> Result<(), String> {
        if endpoints.kernel().map_err(text)? != self.expected {
            self.handle_foreign_change(endpoints, now)?;
        }
        let Some(plan) = self.source.plan(now, self.expected.as_ref())? else {
            return Ok(());
        };
        if self.plan.as_ref() != Some(&plan) {
            endpoints.install(&plan).map_err(text)?;
            self.record(plan.pair.clone(), now);
        }
        self.source.installed(&plan, now);
        self.plan = Some(plan);
        Ok(())
    }

    /// The kernel has another pair than the one that was last put in force.
    fn handle_foreign_change<E: KeyEndpoints>(
        &mut self,
        endpoints: &mut E,
        now: Now,
    ) -> Result<(), String> {
        let (kernel, accepted) = endpoints.both().map_err(text)?;
        if kernel == self.expected {
            return Ok(());
        }
        // Only `tfo` changes the data path along with the kernel.
        let by_tfo = kernel.as_ref().zip(accepted).is_some_and(|(pair, set)| {
            let keys = pair.to_set();
            set.keys().starts_with(keys.keys())
        });
        let kernel = match (self.source.authority(), kernel) {
            (Authority::Anyone, Some(pair)) => return self.follow(endpoints, pair, now),
            (Authority::Tfo, Some(pair)) if by_tfo => {
                info!("keys: another tfo process changed them");
                return self.follow(endpoints, pair, now);
            }
            (_, kernel) => kernel,
        };
        self.report.foreign_changes += 1;
        let primary = kernel.as_ref().map_or("none".to_owned(), |pair| {
            Fingerprint::of(&pair.primary).to_string()
        });
        let what = "someone else changed net.ipv4.tcp_fastopen_key";
        if let (OnForeignChange::Follow, Some(pair)) = (self.on_foreign_change, kernel) {
            warn!("{what}: primary {primary}; following it, as configured");
            return self.follow(endpoints, pair, now);
        }
        warn!("{what}: primary {primary}; restoring the configured keys");
        // With no plan recorded, the next step installs the source's.
        self.plan = None;
        Ok(())
    }

    /// Has the data path accept a pair that the kernel already holds.
    fn follow<E: KeyEndpoints>(
        &mut self,
        endpoints: &mut E,
        pair: KeyPair,
        now: Now,
    ) -> Result<(), String> {
        let plan = KeyPlan::unstaged(&pair);
        endpoints.install(&plan).map_err(text)?;
        self.record(pair, now);
        if self.source.adopt(&plan, now) {
            self.plan = Some(plan);
        }
        Ok(())
    }

    /// Records that `pair` came into force.
    fn record(&mut self, pair: KeyPair, now: Now) {
        let old = self.expected.as_ref().map(|old| old.primary);
        if self.expected.as_ref() != Some(&pair) {
            self.report.rotations += 1;
            info!("keys: {}", pair.describe());
        }
        if old != Some(pair.primary) {
            self.since = now.boot;
        }
        self.expected = Some(pair);
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
