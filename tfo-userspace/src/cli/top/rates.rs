//! What changed between two looks at a namespace.

use std::time::{Duration, Instant};

use tfo_common::counters::{Counter, Counters};
use tfo_userspace::metrics::{InterfaceFacts, NamespaceFacts};

/// The last look, and what is needed of the one before it.
#[derive(Default)]
pub(super) struct Rates {
    pub(super) now: Option<NamespaceFacts>,
    before: Option<NamespaceFacts>,
    at: Option<Instant>,
    /// From the look before to the last; 0 where there is none.
    pub(super) between: Duration,
}

/// A port that has counted something, or all others together.
pub(super) struct PortRow {
    pub(super) label: String,
    pub(super) total: Counters,
    before: Counters,
}

impl Rates {
    /// Takes what was seen just now.
    pub(super) fn next(&mut self, facts: NamespaceFacts) {
        let at = Instant::now();
        let since = self.at.replace(at);
        self.push(facts, since.map_or(Duration::ZERO, |since| at - since));
    }

    /// Takes what was seen so long after the last look.
    pub(super) fn push(&mut self, facts: NamespaceFacts, between: Duration) {
        self.before = self.now.replace(facts);
        self.between = between;
    }

    /// How much a figure grew in a second; 0 where it fell, as it does when an interface goes.
    pub(super) fn per_second(&self, before: u64, now: u64) -> f64 {
        let seconds = self.between.as_secs_f64();
        if seconds > 0.0 {
            #[allow(clippy::cast_precision_loss, reason = "shown with three digits")]
            let grown = now.saturating_sub(before) as f64;
            grown / seconds
        } else {
            0.0
        }
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

    /// Ports with something counted, those with the most SYNs now and then altogether first; what belongs
    /// to no port of its own is last.
    pub(super) fn ports(&self) -> Vec<PortRow> {
        let ours = |facts: &Option<NamespaceFacts>| {
            let drift = facts.as_ref().and_then(|facts| facts.drift.clone());
            drift.map(|drift| drift.ours)
        };
        let Some(now) = ours(&self.now) else {
            return Vec::new();
        };
        let before = ours(&self.before).unwrap_or_else(|| now.clone());
        let mut rows: Vec<_> = now
            .ports
            .iter()
            .map(|(port, total)| PortRow {
                label: port.to_string(),
                total: *total,
                // Its first SYN was after the last look.
                before: before.ports.get(port).copied().unwrap_or_default(),
            })
            .collect();
        rows.sort_by_key(|row| {
            let syns = row.total.get(Counter::Syns);
            let grown = syns.saturating_sub(row.before.get(Counter::Syns));
            std::cmp::Reverse((grown, syns))
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
