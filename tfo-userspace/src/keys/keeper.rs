//! Looks after the keys of one namespace: has those in force that the source says, and notices where
//! someone else changes them.

mod source;

use std::{fmt::Display, time::Duration};

use tfo_common::cookie::KeySet;
use tracing::{error, info, warn};

use self::source::Source;
use super::{Fingerprint, KeyPair, KeyReport, OnForeignChange, Plan, SourceConfig};
use crate::{
    farm::{InForce, Link, phase::Standing},
    kernel::clock::Now,
};

/// The two sides that hold keys.
pub trait Host {
    /// Why a side did not give or take them: one line.
    type Error: Display;

    /// The kernel's pair, or `None` where there is no key yet.
    ///
    /// # Errors
    ///
    /// Where it cannot be read.
    fn kernel(&self) -> Result<Option<KeyPair>, Self::Error>;

    /// The kernel's pair and what the data path accepts, at a moment when nobody is changing them.
    ///
    /// # Errors
    ///
    /// Where either cannot be read.
    fn both(&self) -> Result<(Option<KeyPair>, Option<KeySet>), Self::Error>;

    /// Puts a plan in force on both sides; see [`key_change::install`](crate::datapath::key_change::install).
    ///
    /// # Errors
    ///
    /// Where it cannot; the keys before are then still in force.
    fn install(&mut self, plan: &Plan) -> Result<(), Self::Error>;
}

/// Looks after the keys of one namespace. [`Keeper::tick`] does all there is to do; it is to be called
/// about twice a second, and whenever there is reason to think that something changed.
pub struct Keeper {
    source: Source,
    on_foreign_change: OnForeignChange,
    /// What was put in force last.
    plan: Option<Plan>,
    /// What the kernel then had; someone else's, where theirs were taken.
    expected: Option<KeyPair>,
    /// When the primary key changed, by [`Now::boot`].
    since: Duration,
    report: KeyReport,
}

/// What was in force before the controller began.
#[derive(Clone, Default)]
pub struct Found {
    /// The kernel's keys.
    pub pair: Option<KeyPair>,
    /// What the data path accepts.
    pub accepted: Option<KeySet>,
    /// How long the primary key has been that.
    pub age: Option<Duration>,
    /// Whether the data path was attached already: clients then hold cookies that a controller like this
    /// one stood for.
    pub taken_over: bool,
}

impl Keeper {
    /// Begins with what was found. Nothing changes before the first [`Keeper::tick`].
    pub fn new(
        config: &SourceConfig,
        on_foreign_change: OnForeignChange,
        found: Found,
        now: Now,
    ) -> Self {
        let since = now.boot.saturating_sub(found.age.unwrap_or_default());
        let last = found.pair.as_ref().map(|pair| pair.primary);
        let source = Source::new(
            config,
            in_force(found.pair.clone(), found.accepted),
            since,
            last.filter(|_| found.taken_over),
            now,
        );
        Self {
            source,
            on_foreign_change,
            plan: None,
            expected: found.pair,
            since,
            report: KeyReport {
                source: config.name(),
                ..KeyReport::default()
            },
        }
    }

    /// Goes on with another source, or with other times. The key that is primary stays accepted for as
    /// long as the kernel has room for it; see [`super::SecretSchedule`].
    pub fn configure(
        &mut self,
        config: &SourceConfig,
        on_foreign_change: OnForeignChange,
        now: Now,
    ) {
        self.on_foreign_change = on_foreign_change;
        self.report.source = config.name();
        if let (Source::Random(schedule), SourceConfig::Random { interval }) =
            (&mut self.source, config)
        {
            schedule.interval = *interval;
            return;
        }
        let last = self.expected.as_ref().map(|pair| pair.primary);
        let plan = self.plan.take().or(in_force(self.expected.clone(), None));
        self.source = Source::new(config, plan, self.since, last, now);
    }

    /// Takes a farm's keys from this link, where they are to come from a farm.
    pub(crate) fn join(&mut self, to: Link) {
        if let Source::Etcd { link, .. } = &mut self.source {
            *link = Some(to);
        }
    }

    /// What there is to say about the keys.
    pub fn report(&self) -> KeyReport {
        self.report.clone()
    }

    /// How long it is until the next change is due; `None` where it is overdue, or the source decides.
    pub fn next(&self, now: Now) -> Option<Duration> {
        let due = self.source.next(now)?;
        due.checked_sub(now.boot).filter(|left| !left.is_zero())
    }

    /// Has the right keys in force, and notices what someone else did. What fails changes nothing, is said
    /// once, and is tried again the next time.
    pub fn tick(&mut self, host: &mut impl Host, now: Now) {
        let trouble = self.source.refresh();
        let result = self.advance(host, now);
        let trouble = result.and(trouble);
        match (&trouble, &self.report.last_error) {
            (Err(text), last) if last.as_ref() != Some(text) => {
                error!("{text}");
                self.report.failures += 1;
            }
            (Ok(()), Some(_)) => info!("keys: all is well again"),
            _ => {}
        }
        self.report.last_error = trouble.err();
        self.report.primary = self
            .expected
            .as_ref()
            .map(|pair| Fingerprint::of(&pair.primary));
        self.report.since = Some(now.wall_at(self.since));
        self.report.next = self.source.next(now).map(|next| now.wall_at(next));
        self.tell_farm();
    }

    /// Says what is in force, where a farm waits for it.
    fn tell_farm(&self) {
        let Source::Etcd {
            link: Some(link),
            standing,
        } = &self.source
        else {
            return;
        };
        let error = self.report.last_error.clone();
        let standing = standing
            .as_ref()
            .filter(|standing| error.is_none() && self.expected.as_ref() == Some(&standing.pair()));
        let has = InForce {
            step: standing.map(Standing::step),
            primary: self.report.primary,
            error,
        };
        link.in_force.send_if_modified(|old| {
            let new = *old != has;
            *old = has;
            new
        });
    }

    fn advance(&mut self, host: &mut impl Host, now: Now) -> Result<(), String> {
        let kernel = host.kernel().map_err(text)?;
        if kernel != self.expected {
            self.foreign(host, now)?;
        }
        let Some(plan) = self.source.plan(now, self.expected.as_ref())? else {
            return Ok(());
        };
        if self.plan.as_ref() != Some(&plan) {
            host.install(&plan).map_err(text)?;
            self.in_force(plan.pair.clone(), now);
        }
        self.source.done(&plan, now);
        self.plan = Some(plan);
        Ok(())
    }

    /// The kernel has other keys than were put there.
    fn foreign(&mut self, host: &mut impl Host, now: Now) -> Result<(), String> {
        let (kernel, accepted) = host.both().map_err(text)?;
        if kernel == self.expected {
            return Ok(());
        }
        let is_random = matches!(self.source, Source::Random(_));
        let by_us = kernel.as_ref().zip(accepted).is_some_and(|(pair, set)| {
            // Who goes by the rule has the data path follow.
            set.keys().starts_with(pair.to_set().keys())
        });
        let kernel = match (&self.source, kernel) {
            // The source's word is law, and this is the source.
            (Source::Kernel, Some(pair)) => {
                return self.take(host, pair, now);
            }
            // An operator's `tfo keys`: as good a random key as ours.
            (_, Some(pair)) if by_us && is_random => {
                info!("keys were changed by another tfo");
                return self.take(host, pair, now);
            }
            (_, kernel) => kernel,
        };
        self.report.foreign_changes += 1;
        let theirs = kernel.as_ref().map_or("none".to_owned(), |pair| {
            Fingerprint::of(&pair.primary).to_string()
        });
        let what = "someone else changed net.ipv4.tcp_fastopen_key";
        if let (OnForeignChange::Follow, Some(pair)) = (self.on_foreign_change, kernel) {
            warn!("{what}: primary {theirs}; followed, as configured");
            return self.take(host, pair, now);
        }
        warn!("{what}: primary {theirs}; putting ours back");
        // What is in force is not what was planned: the plan is installed anew.
        self.plan = None;
        Ok(())
    }

    /// Takes keys that are in the kernel already.
    fn take(&mut self, host: &mut impl Host, pair: KeyPair, now: Now) -> Result<(), String> {
        let plan = Plan { pair, staged: None };
        host.install(&plan).map_err(text)?;
        self.in_force(plan.pair.clone(), now);
        match &mut self.source {
            Source::Random(schedule) => schedule.done(&plan, now),
            Source::Kernel => {}
            // What it planned last is not planned again, until the next change.
            Source::Secret { .. } | Source::File { .. } | Source::Etcd { .. } => return Ok(()),
        }
        self.plan = Some(plan);
        Ok(())
    }

    /// Remembers what came into force.
    fn in_force(&mut self, pair: KeyPair, now: Now) {
        let old = self.expected.as_ref().map(|old| old.primary);
        if self.expected.as_ref() != Some(&pair) {
            self.report.rotations += 1;
            info!("keys: {}", describe(&pair));
        }
        if old != Some(pair.primary) {
            self.since = now.boot;
        }
        self.expected = Some(pair);
    }
}

/// The plan that is in force, where the data path accepts the kernel's keys and one more.
fn in_force(pair: Option<KeyPair>, accepted: Option<KeySet>) -> Option<Plan> {
    let pair = pair?;
    let staged =
        accepted.and_then(
            |accepted| match accepted.keys().strip_prefix(pair.to_set().keys())? {
                [staged] => Some(*staged),
                _ => None,
            },
        );
    Some(Plan { pair, staged })
}

/// A pair's fingerprints, in words.
fn describe(pair: &KeyPair) -> String {
    let primary = Fingerprint::of(&pair.primary);
    match &pair.backup {
        Some(backup) => format!("primary {primary}, backup {}", Fingerprint::of(backup)),
        None => format!("primary {primary}"),
    }
}

fn text(error: impl Display) -> String {
    error.to_string()
}
