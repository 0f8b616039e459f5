//! Rates between two readings of a namespace, and the share of data taken over time.

use std::{
    cmp::Reverse,
    collections::VecDeque,
    time::{Duration, Instant},
};

use tfo_common::counters::{Counter, Counters};
use tfo_userspace::{
    metrics::{InterfaceFacts, NamespaceFacts},
    model::{FastOpenSummary, growth},
};

use crate::cli::rate::per_second;

/// Intervals that are kept: more than a terminal is wide.
const HISTORY: usize = 1024;

/// The last reading, the one before it, and the history of the share.
#[derive(Default)]
pub(super) struct Rates {
    pub(super) now: Option<NamespaceFacts>,
    before: Option<NamespaceFacts>,
    at: Option<Instant>,
    /// The time between the two; 0 after the first reading.
    pub(super) between: Duration,
    /// The newest interval first.
    pub(super) history: VecDeque<Interval>,
}

/// Fast Open in one interval between two readings.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Interval {
    pub(super) summary: FastOpenSummary,
    /// Attempts per second.
    pub(super) rate: f64,
}

/// A port that has counted something, or all ports without counters of their own.
pub(super) struct PortRow {
    pub(super) label: String,
    pub(super) total: Counters,
    before: Counters,
}

impl PortRow {
    /// Returns the counts between the two readings.
    pub(super) fn grown(&self) -> Counters {
        growth(&self.before, &self.total)
    }
}

impl Rates {
    /// The reading before the last one, and the last one.
    pub(super) fn readings(&self) -> Option<(&NamespaceFacts, &NamespaceFacts)> {
        self.before.as_ref().zip(self.now.as_ref())
    }

    /// Takes a reading of this moment.
    pub(super) fn next(&mut self, facts: NamespaceFacts) {
        let at = Instant::now();
        let since = self.at.replace(at);
        self.push(facts, since.map_or(Duration::ZERO, |since| at - since));
    }

    /// Takes a reading that was made `between` after the last one.
    pub(super) fn push(&mut self, facts: NamespaceFacts, between: Duration) {
        self.before = self.now.replace(facts);
        self.between = between;
        if let Some((before, now)) = self.readings() {
            let grown = growth(&before.counters(), &now.counters());
            let summary = FastOpenSummary::of(&grown);
            let rate = self.per_second(0, summary.attempts());
            self.history.push_front(Interval { summary, rate });
            self.history.truncate(HISTORY);
        }
    }

    /// The growth of a counter per second; 0 if it fell, as counters do when an interface is detached.
    pub(super) fn per_second(&self, before: u64, now: u64) -> f64 {
        per_second(now.saturating_sub(before), self.between)
    }

    /// The total and the rate of a counter, on all interfaces.
    pub(super) fn counter(&self, counter: Counter) -> (u64, f64) {
        let now = self.now.as_ref().map(NamespaceFacts::counters);
        let now = now.unwrap_or_default().get(counter);
        let before = self.before.as_ref().map(NamespaceFacts::counters);
        let before = before.map_or(now, |counters| counters.get(counter));
        (now, self.per_second(before, now))
    }

    /// SYNs per second of an interface.
    pub(super) fn interface(&self, interface: &InterfaceFacts) -> f64 {
        let syns = |facts: &InterfaceFacts| {
            let counters = facts.counters.as_ref()?;
            Some(counters.total.get(Counter::Syns))
        };
        let interfaces = self.before.iter().flat_map(|facts| &facts.interfaces);
        let before = interfaces
            .filter(|each| each.name == interface.name)
            .find_map(syns);
        match (before, syns(interface)) {
            (Some(before), Some(now)) => self.per_second(before, now),
            _ => 0.0,
        }
    }

    /// The rate of a port's counter.
    pub(super) fn port(&self, row: &PortRow, counter: Counter) -> f64 {
        self.per_second(row.before.get(counter), row.total.get(counter))
    }

    /// Ports that have counted something, the busiest in the last interval first, then those with the most SYNs.
    /// Ports without counters of their own are last, together.
    pub(super) fn ports(&self) -> Vec<PortRow> {
        let ours = |facts: &Option<NamespaceFacts>| {
            let drift = facts.as_ref().and_then(|facts| facts.drift.clone());
            drift.map(|drift| drift.ours)
        };
        let Some(now) = ours(&self.now) else {
            return Vec::new();
        };
        let before = ours(&self.before).unwrap_or_else(|| now.clone());
        let counted = now.ports.iter();
        let counted = counted.filter(|(_, counters)| **counters != Counters::default());
        let mut rows: Vec<_> = counted
            .map(|(port, total)| PortRow {
                label: port.to_string(),
                total: *total,
                // None if the port's first SYN came after that reading.
                before: before.ports.get(port).copied().unwrap_or_default(),
            })
            .collect();
        rows.sort_by_key(|row| {
            let syns = row.total.get(Counter::Syns);
            let grown = syns.saturating_sub(row.before.get(Counter::Syns));
            Reverse((grown, syns))
        });
        if now.other != Counters::default() {
            rows.push(PortRow {
                label: "other".to_owned(),
                total: now.other,
                before: before.other,
            });
        }
        rows
    }
}
