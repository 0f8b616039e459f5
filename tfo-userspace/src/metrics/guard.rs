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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        metrics::{InterfaceFacts, render_namespaces},
        model::{Guard, PortGuard, PortState},
    };

    fn facts(ports: Vec<PortState>) -> NamespaceFacts {
        NamespaceFacts {
            guard: Some(GuardState {
                guard: Guard::default(),
                ports,
                window_scale: 7,
                stale: None,
                slot: 7,
            }),
            interfaces: vec![InterfaceFacts {
                name: "eth0".to_owned(),
                guarded: true,
                ..InterfaceFacts::default()
            }],
            ..NamespaceFacts::default()
        }
    }

    fn port(port: u16, on: bool) -> PortState {
        PortState {
            vip: None,
            port,
            rule: PortGuard::default(),
            on,
            since: on.then_some(Duration::from_secs(9)),
            switches: 2,
        }
    }

    #[test]
    fn ports_are_told_by_number_as_far_as_they_are_few() {
        let text = render_namespaces(&[facts(vec![port(0, false), port(443, true)])]);
        for series in [
            "tfo_guard_rules 2",
            "tfo_guard_refused 0",
            r#"tfo_guard_interface{interface="eth0"} 1"#,
            r#"tfo_guard_on{port="default",mode="off"} 0"#,
            r#"tfo_guard_on{port="443",mode="off"} 1"#,
            r#"tfo_guard_switches_total{port="443"} 2"#,
            r#"tfo_guard_switch_age_seconds{port="443"} 9"#,
        ] {
            assert!(text.contains(&format!("\n{series}\n")), "{series}\n{text}");
        }
        let many = (1..=70).map(|number| port(number, number == 70));
        let text = render_namespaces(&[facts(many.collect())]);
        assert_eq!(text.matches("tfo_guard_on{").count(), MAX_METRIC_PORTS + 1);
        for series in [
            "tfo_guard_on{port=\"other\"} 1",
            "tfo_guard_switches_total{port=\"other\"} 12",
        ] {
            assert!(text.contains(series), "{text}");
        }
        let text = render_namespaces(&[NamespaceFacts::default()]);
        assert!(text.contains("\ntfo_guard_rules 0\n") && !text.contains("tfo_guard_on{"));
    }
}
