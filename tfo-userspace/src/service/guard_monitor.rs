//! The guard of a namespace: what the configuration has, a new secret in each slot of time, and the log of ports
//! that came to be guarded.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use tfo_common::counters::Counter;
use tracing::{error, info, warn};

use crate::{
    config::NamespaceConfig,
    datapath::{DatapathError, GuardError, Namespace, PortState, Snapshot, Unguarded},
    guard::{Guard, Switch, changes},
};

/// What is known of it since the last look.
#[derive(Default)]
pub(super) struct Watchman {
    /// Why the configured guard is not in force, if it is not.
    refused: Option<String>,
    /// The interfaces that cannot have it, which the log has.
    unguarded: Vec<Unguarded>,
    /// The slot of time that has had its new secret.
    slot: Option<u64>,
    /// Those with a rule, at the last look.
    ports: BTreeMap<u16, PortState>,
    /// SYNs that had been challenged when a port was last not guarded.
    challenged: BTreeMap<u16, u64>,
    /// Why it could not be looked at, which the log has.
    blind: Option<String>,
}

impl Watchman {
    /// Why the configured guard is not in force, if it is not.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.clone()
    }

    /// Puts the configured guard in force, if there is one. What was in force before stays where that fails.
    pub(super) async fn apply(&mut self, namespace: &Namespace, config: &NamespaceConfig) {
        let Some(guard) = &config.guard else {
            self.refused = None;
            return;
        };
        self.refused = match change(namespace, Some(guard)).await {
            Ok((other, unguarded)) => {
                if other {
                    let rules = guard.rules().count();
                    let noun = if rules == 1 { "rule" } else { "rules" };
                    info!("guard: {rules} {noun} in force");
                }
                if unguarded != self.unguarded {
                    for each in &unguarded {
                        warn!("not guarded: {each}");
                    }
                    self.unguarded = unguarded;
                }
                None
            }
            Err(error) => {
                error!("guard: {error}");
                Some(error.to_string())
            }
        };
    }

    /// Clears the guard in force, which the configuration no longer has.
    pub(super) async fn clear(&mut self, namespace: &Namespace) {
        self.unguarded.clear();
        match change(namespace, None).await {
            Ok((true, _)) => info!("guard: cleared"),
            Ok((false, _)) => {}
            Err(error) => error!("guard: {error}"),
        }
    }

    /// Looks after the guard in force, whoever put it there.
    pub(super) fn tick(&mut self, namespace: &Namespace) {
        let looked = self.look(namespace).err().map(|error| error.to_string());
        if let Some(error) = looked.as_ref().filter(|_| looked != self.blind) {
            error!("guard: {error}");
        }
        self.blind = looked;
    }

    fn look(&mut self, namespace: &Namespace) -> Result<(), DatapathError> {
        let state = namespace.guard()?;
        let slot = state.as_ref().map(|state| state.slot);
        if slot.is_some() && slot != self.slot {
            namespace.refresh_guard()?;
        }
        self.slot = slot;
        let ports = state.map(|state| state.ports).unwrap_or_default();
        if ports.len() != self.ports.len() || !ports.iter().all(|port| self.has_seen(port)) {
            self.note(ports, &namespace.counters()?);
        }
        Ok(())
    }

    /// Whether nothing became of it since.
    fn has_seen(&self, port: &PortState) -> bool {
        let seen = self.ports.get(&port.port);
        seen.is_some_and(|seen| (seen.on, seen.switches) == (port.on, port.switches))
    }

    fn note(&mut self, ports: Vec<PortState>, counters: &Snapshot) {
        let now = ports.iter().map(|port| port.port);
        let ruled: BTreeSet<_> = self.ports.keys().copied().chain(now).collect();
        let total = |port| challenged(port, &ruled, counters);
        for (port, switch) in changes(&self.ports, &ports) {
            let text = switch.text(&port);
            if switch == Switch::On {
                info!("guard: {text}");
                continue;
            }
            let total = total(port.port);
            let before = self.challenged.insert(port.port, total);
            // Counts start anew where the data path does.
            let since = total.checked_sub(before.unwrap_or_default());
            let since = since.map(|since| format!("; {since} SYNs were challenged"));
            info!("guard: {text}{}", since.unwrap_or_default());
        }
        let before = mem::take(&mut self.challenged);
        let of = |port: &PortState| {
            let before = before.get(&port.port).filter(|_| port.on).copied();
            (port.port, before.unwrap_or_else(|| total(port.port)))
        };
        self.challenged = ports.iter().map(of).collect();
        self.ports = ports.into_iter().map(|port| (port.port, port)).collect();
    }
}

/// SYNs that were challenged by a port's rule; by that of port 0 where a port is not among the `ruled` ones.
fn challenged(port: u16, ruled: &BTreeSet<u16>, counters: &Snapshot) -> u64 {
    let count = Counter::GuardChallenged;
    if port != 0 {
        return counters.ports.get(&port).map_or(0, |it| it.get(count));
    }
    let others = counters.ports.iter();
    let others = others.filter(|(port, _)| !ruled.contains(port));
    counters.other.get(count) + others.map(|(_, it)| it.get(count)).sum::<u64>()
}

/// Says whether it is another one now, and which interfaces cannot have it.
async fn change(
    namespace: &Namespace,
    guard: Option<&Guard>,
) -> Result<(bool, Vec<Unguarded>), GuardError> {
    let mut other = false;
    let unguarded = namespace.change_guard(|before| {
        other = before.as_ref() != guard;
        Ok::<_, GuardError>(guard.cloned())
    });
    unguarded.await.map(|unguarded| (other, unguarded))
}

#[cfg(test)]
mod tests {
    use tfo_common::counters::Counters;

    use super::*;

    #[test]
    fn the_default_rule_has_what_no_other_has() {
        let counters = |challenged| {
            let mut counters = Counters::default();
            counters.add(Counter::GuardChallenged, challenged);
            counters
        };
        let snapshot = Snapshot {
            ports: [(443, counters(1)), (80, counters(2))].into(),
            other: counters(4),
            ..Snapshot::default()
        };
        let ruled = [0, 443].into();
        assert_eq!(challenged(443, &ruled, &snapshot), 1);
        assert_eq!(challenged(8443, &ruled, &snapshot), 0);
        assert_eq!(challenged(0, &ruled, &snapshot), 2 + 4);
    }
}
