//! Metrics of the guard.

use std::time::Duration;

use tfo_common::{
    counters::{Counter, Counters},
    guard::GuardAction,
};

use super::{
    facts::NamespaceFacts,
    family::Families,
    table::{
        GUARD_COOKIES, GUARD_INTERFACE, GUARD_ON, GUARD_PROOFS, GUARD_REFUSED, GUARD_RULES,
        GUARD_SINCE, GUARD_SWITCHES, GUARD_SYNS,
    },
};
use crate::{datapath::GuardState, model::MAX_METRIC_PORTS};

/// Adds the guard's rules and states.
pub(super) fn add_guard(families: &mut Families, facts: &NamespaceFacts) {
    let netns = facts.target.netns.as_str();
    families.add(&GUARD_REFUSED, &[netns], facts.guard_refused.is_some());
    if facts.errors.contains_key("guard") {
        return;
    }
    let state = facts.guard.as_ref();
    families.add(&GUARD_RULES, &[netns], state.map_or(0, |it| it.ports.len()));
    let Some(state) = state else { return };
    add_ports(families, netns, state);
    for interface in &facts.interfaces {
        let labels = [netns, interface.name.as_str()];
        families.add(&GUARD_INTERFACE, &labels, interface.guarded);
    }
}

/// Adds the states by rule. There may be 65,536 rules: those beyond [`MAX_METRIC_PORTS`] are added as `other`.
fn add_ports(families: &mut Families, netns: &str, state: &GuardState) {
    let (named, others) = state
        .ports
        .split_at(state.ports.len().min(MAX_METRIC_PORTS));
    let mut add = |port: &str, mode: &str, on: bool, switches: u64, since: Option<Duration>| {
        families.add(&GUARD_ON, &[netns, port, mode], on);
        families.add(&GUARD_SWITCHES, &[netns, port], switches);
        if let Some(since) = since {
            families.add(&GUARD_SINCE, &[netns, port], since);
        }
    };
    for port in named {
        add(
            &port.name(),
            port.rule.mode.name(),
            port.on,
            port.switches,
            port.since,
        );
    }
    if !others.is_empty() {
        let switches = others.iter().map(|port| port.switches).sum();
        let since = others.iter().filter_map(|port| port.since).min();
        let on = others.iter().any(|port| port.on);
        add("other", "", on, switches, since);
    }
}

/// Adds the guard's counters of one interface and port.
pub(super) fn add_reactions(
    families: &mut Families,
    [netns, name, port]: [&str; 3],
    counts: &Counters,
) {
    for reaction in GuardAction::ALL {
        if let Some(counter) = reaction.counter() {
            let labels = [netns, name, port, reaction.name()];
            families.add(&GUARD_SYNS, &labels, counts.get(counter));
        }
    }
    for (result, counter) in [
        ("accepted", Counter::GuardAccepted),
        ("wrong", Counter::GuardWrongAcks),
        ("dropped", Counter::GuardDropped),
        ("refused", Counter::GuardRefused),
        ("queue_full", Counter::GuardQueueFull),
    ] {
        let labels = [netns, name, port, result];
        families.add(&GUARD_PROOFS, &labels, counts.get(counter));
    }
    let cookies = counts.get(Counter::GuardCookies);
    families.add(&GUARD_COOKIES, &[netns, name, port], cookies);
}
