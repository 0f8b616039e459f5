//! The guard of a namespace: puts the configured one in force, renews a secret in each time slot, and logs when ports
//! become guarded.

use std::{
    collections::{BTreeMap, BTreeSet},
    mem,
};

use tfo_common::counters::{Counter, Counters};
use tracing::{error, info, warn};

use super::{edges::EdgeKeeper, repeated::log_new};
use crate::{
    config::NamespaceConfig,
    datapath::{
        DatapathError, GuardChange, GuardError, GuardState, LeftOut, Namespace, OnUnfit, Snapshot,
        unchallenged_tunnels,
    },
    farm::{GuardRecord, Membership},
    guard::{Answers, Obstacle, PortStates, Switch, changes, fitness},
    kernel::clock,
    keys::Secret,
    model::{Guard, PortState, Prefix},
};

/// Monitors the guard of a namespace.
#[derive(Default)]
pub(super) struct GuardMonitor {
    /// Why the configured guard is not in force.
    refused: Option<String>,
    /// The interfaces without the guard that were logged last.
    unguarded: Vec<LeftOut>,
    /// The host's obstacles to the configured guard, as they were logged last.
    obstacles: Vec<Obstacle>,
    /// The answers of clients to challenges.
    answers: Answers,
    /// The rules for services behind this host.
    edges: EdgeKeeper,
    /// The guard in force, as the farm is told.
    record: Option<GuardRecord>,
    /// Why the rules of services could not be changed last, which was logged.
    edges_failed: Option<String>,
    /// The time slot in which a secret was last renewed.
    slot: Option<u64>,
    /// The states of all ports with a rule, at the last tick.
    ports: PortStates,
    /// The count of challenged SYNs when each port was last not guarded.
    challenged: BTreeMap<(Option<Prefix>, u16), u64>,
    /// The error of the last tick, which was logged.
    last_error: Option<String>,
}

impl GuardMonitor {
    /// Why the configured guard is not in force.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.clone()
    }

    /// Puts the configured guard in force, if there is one. Leaves out ports at which it would break connections, unless
    /// the configuration insists. After a failure the previous one stays.
    pub(super) async fn apply(&mut self, namespace: &Namespace, config: &NamespaceConfig) {
        let Some(mut guard) = config.guard.clone() else {
            self.refused = None;
            return;
        };
        let secret = config.guard_secret.as_deref().map(Secret::read).transpose();
        guard.secret = match secret {
            Ok(secret) => secret.map(|secret| secret.challenge_secret()),
            Err(error) => {
                error!("guard: {error}; what is in force stays");
                self.refused = Some(error.to_string());
                return;
            }
        };
        let refused = self.check(&guard, config.force_guard);
        let mut left = if refused.is_some() {
            fitness::without(&guard, &self.obstacles)
        } else {
            guard.clone()
        };
        let edges = self.edges.adjusted(&guard.edges);
        for (service, edge) in &mut left.edges {
            *edge = edges[service];
        }
        let rules = left.rules().count() + left.edges.len();
        let left = (rules > 0).then_some(&left);
        self.refused = match change(namespace, left, OnUnfit::of(config.force_guard)).await {
            Ok((changed, unguarded)) => {
                self.edges.set(edges);
                if changed {
                    let noun = if rules == 1 { "rule" } else { "rules" };
                    info!("guard: {rules} {noun} in force");
                }
                if unguarded != self.unguarded {
                    for each in &unguarded {
                        warn!("not guarded: {each}");
                    }
                    self.unguarded = unguarded;
                }
                refused
            }
            Err(error) => {
                error!("guard: {error}");
                Some(error.to_string())
            }
        };
    }

    /// Logs what the host has against the guard. Gives why ports of it have to be left out.
    fn check(&mut self, guard: &Guard, force: bool) -> Option<String> {
        let obstacles = fitness::obstacles(guard);
        if obstacles != self.obstacles {
            for each in &obstacles {
                warn!("guard: {}: {}", each.found, each.short_remedy());
            }
        }
        self.obstacles = obstacles;
        let breaks = self
            .obstacles
            .iter()
            .filter(|each| each.refuses() && !force);
        let found: Vec<_> = breaks.map(|each| each.found.clone()).collect();
        (!found.is_empty()).then(|| found.join("; "))
    }

    /// Clears the guard in force, after its section was removed from the configuration. The farm is told before: edges stop
    /// to challenge for this host while it still takes answers.
    pub(super) async fn clear(&mut self, namespace: &Namespace, farm: Option<&Membership>) {
        if let Some((farm, record)) = farm.zip(self.record.as_ref()) {
            farm.report_guard(record.without_answers());
        }
        self.unguarded.clear();
        self.obstacles.clear();
        match change(namespace, None, OnUnfit::Skip).await {
            Ok((true, _)) => info!("guard: cleared"),
            Ok((false, _)) => {}
            Err(error) => error!("guard: {error}"),
        }
    }

    /// Renews a secret where a time slot began, logs changes of ports, whoever set the guard, and tells the farm. To be
    /// called about twice a second.
    pub(super) fn tick(&mut self, namespace: &Namespace, farm: Option<&Membership>) {
        let watched = self.watch(namespace, farm);
        let error = watched.err().map(|error| error.to_string());
        log_new(&mut self.last_error, "guard", error);
    }

    /// Has the rules of services behind this host follow what the farm's hosts take. Gives whether rules that answer SYNs
    /// were changed.
    pub(super) async fn follow_farm(
        &mut self,
        namespace: &Namespace,
        configured: Option<&Guard>,
        farm: Option<&Membership>,
    ) -> bool {
        let own = self.record.as_ref();
        let followed = self.edges.follow(namespace, configured, own, farm).await;
        let error = followed.as_ref().err().map(ToString::to_string);
        log_new(&mut self.edges_failed, "guard", error);
        followed.unwrap_or(false)
    }

    /// Tells the farm which guard is in force.
    fn report(
        &mut self,
        state: Option<&GuardState>,
        namespace: &Namespace,
        farm: &Membership,
    ) -> Result<(), DatapathError> {
        let record = GuardRecord::read(state, || namespace.guard().least_mtu());
        let mut record = record.map_err(|source| DatapathError::Io {
            path: "rtnetlink".into(),
            source,
        })?;
        if self.refused.is_some() {
            record.remove(&fitness::broken(&self.obstacles));
        }
        farm.report_guard(record.clone());
        self.record = Some(record);
        Ok(())
    }

    fn watch(
        &mut self,
        namespace: &Namespace,
        farm: Option<&Membership>,
    ) -> Result<(), DatapathError> {
        let state = namespace.guard().state()?;
        let slot = state.as_ref().map(|state| state.slot);
        let change = state.as_ref().and_then(|state| state.stale);
        if let Some(change) = change {
            info!("guard: {change}");
        }
        if change.is_some() || slot.is_some() && slot != self.slot {
            namespace.guard().refresh()?;
        }
        self.slot = slot;
        if let Some(farm) = farm {
            self.report(state.as_ref(), namespace, farm)?;
        }
        let now = clock::since_boot();
        if slot.is_some() && self.answers.is_due(now) {
            for (port, trouble) in self.answers.observe(now, &namespace.counters()?) {
                let name = port_name(port);
                warn!(
                    "guard: {name}: {trouble} in the last minute: {}",
                    trouble.remedy()
                );
            }
        }
        let ports = state.map(|state| state.ports).unwrap_or_default();
        if ports.len() != self.ports.len() || !ports.iter().all(|port| self.is_unchanged(port)) {
            self.update(ports, &namespace.counters()?);
        }
        Ok(())
    }

    /// `true` if the port has had no transition since the last tick.
    fn is_unchanged(&self, port: &PortState) -> bool {
        let seen = self.ports.get(&port.key());
        seen.is_some_and(|seen| (seen.on, seen.switches) == (port.on, port.switches))
    }

    /// Logs the transitions and records the new states.
    fn update(&mut self, ports: Vec<PortState>, counters: &Snapshot) {
        let now = ports.iter().map(|port| port.port);
        let seen = self.ports.keys().map(|(_, port)| *port);
        let ruled: BTreeSet<_> = seen.chain(now).collect();
        let total = |port| challenged(port, &ruled, counters);
        for (port, switch) in changes(&self.ports, &ports) {
            let text = switch.text(&port);
            if switch == Switch::On {
                info!("guard: {text}");
                continue;
            }
            if port.vip.is_some() {
                // Services of one port count together.
                info!("guard: {text}");
                continue;
            }
            let total = total(port.port);
            let before = self.challenged.insert(port.key(), total);
            // The counters may have restarted at 0.
            let since = total.checked_sub(before.unwrap_or_default());
            let since = since.map(|since| format!("; {since} SYNs were challenged"));
            info!("guard: {text}{}", since.unwrap_or_default());
        }
        let before = mem::take(&mut self.challenged);
        let of = |port: &PortState| {
            let before = before.get(&port.key()).filter(|_| port.on).copied();
            (port.key(), before.unwrap_or_else(|| total(port.port)))
        };
        self.challenged = ports.iter().map(of).collect();
        self.ports = ports.into_iter().map(|port| (port.key(), port)).collect();
    }
}

fn port_name(port: u16) -> String {
    match port {
        0 => "ports that are not counted separately".to_owned(),
        port => format!("port {port}"),
    }
}

/// SYNs challenged under a port's rule. Port 0 is the default rule, which applies to all ports not in `ruled`.
fn challenged(port: u16, ruled: &BTreeSet<u16>, counters: &Snapshot) -> u64 {
    let of = |counts: &Counters| {
        counts.get(Counter::GuardChallenged) + counts.get(Counter::GuardReferred)
    };
    if port != 0 {
        return counters.ports.get(&port).map_or(0, of);
    }
    let others = counters.ports.iter();
    let others = others.filter(|(port, _)| !ruled.contains(port));
    of(&counters.other) + others.map(|(_, it)| of(it)).sum::<u64>()
}

/// Puts `guard` in force. Gives whether it differs from the previous one, and the interfaces that cannot have it.
async fn change(
    namespace: &Namespace,
    guard: Option<&Guard>,
    on_unfit: OnUnfit,
) -> Result<(bool, Vec<LeftOut>), GuardError> {
    let change = GuardChange::begin(namespace)?;
    let differs = change.before.as_ref() != guard;
    let mut left_out = change.apply(guard, on_unfit).await?;
    left_out.extend(unchallenged_tunnels(namespace).await?);
    Ok((differs, left_out))
}

#[cfg(test)]
mod tests {
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
