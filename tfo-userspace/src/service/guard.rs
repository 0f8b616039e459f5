//! The guard of a namespace: what the configuration has, a new secret in each slot of time, and the log of ports
//! that came to be guarded.

use std::collections::BTreeMap;

use tfo_common::counters::Counter;
use tracing::{error, info, warn};

use crate::{
    config::NamespaceConfig,
    datapath::{DatapathError, GuardError, GuardState, Namespace, PortState, Snapshot, Unguarded},
    guard::{Guard, Switch, switches},
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
    ports: BTreeMap<u16, Seen>,
    /// Why it could not be looked at, which the log has.
    blind: Option<String>,
}

/// A port at the last look.
#[derive(Clone, Copy, Debug)]
struct Seen {
    state: PortState,
    /// SYNs that had been challenged when it was last not guarded.
    challenged: u64,
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
        let Some(state) = namespace.guard()? else {
            self.ports.clear();
            self.slot = None;
            return Ok(());
        };
        if self.slot != Some(state.slot) {
            namespace.refresh_guard()?;
            self.slot = Some(state.slot);
        }
        let same = state.ports.len() == self.ports.len()
            && state.ports.iter().all(|port| self.has_seen(port));
        if !same {
            self.note(&state, &namespace.counters()?);
        }
        Ok(())
    }

    /// Whether nothing became of it since.
    fn has_seen(&self, port: &PortState) -> bool {
        let seen = self.ports.get(&port.port);
        seen.is_some_and(|seen| (seen.state.on, seen.state.switches) == (port.on, port.switches))
    }

    fn note(&mut self, state: &GuardState, counters: &Snapshot) {
        let mut ports = BTreeMap::new();
        for port in &state.ports {
            let challenged = challenged(state, port.port, counters);
            let seen = self.ports.get(&port.port);
            let before = seen.map_or(challenged, |seen| seen.challenged);
            let switches = switches(seen.map(|seen| &seen.state), port);
            for switch in &switches {
                let text = switch.text(port);
                match switch {
                    Switch::On => info!("guard: {text}"),
                    Switch::Off { .. } => {
                        let challenged = challenged.saturating_sub(before);
                        info!("guard: {text}; {challenged} SYNs were challenged");
                    }
                }
            }
            let ended = switches.iter().any(|it| *it != Switch::On);
            let challenged = if port.on && !ended {
                before
            } else {
                challenged
            };
            let state = *port;
            ports.insert(port.port, Seen { state, challenged });
        }
        self.ports = ports;
    }
}

/// SYNs that were challenged by a port's rule.
fn challenged(state: &GuardState, port: u16, counters: &Snapshot) -> u64 {
    let count = Counter::GuardChallenged;
    if port != 0 {
        return counters.ports.get(&port).map_or(0, |it| it.get(count));
    }
    let ruled = |port: &u16| state.guard.ports.contains_key(port);
    let others = counters.ports.iter().filter(|(port, _)| !ruled(port));
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
    use crate::guard::PortGuard;

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
        let state = GuardState {
            guard: Guard {
                default: Some(PortGuard::default()),
                ports: [(443, PortGuard::default())].into(),
                ..Guard::default()
            },
            ports: Vec::new(),
            slot: 0,
        };
        assert_eq!(challenged(&state, 443, &snapshot), 1);
        assert_eq!(challenged(&state, 8443, &snapshot), 0);
        assert_eq!(challenged(&state, 0, &snapshot), 2 + 4);
    }
}
