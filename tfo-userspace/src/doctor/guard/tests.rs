//! The doctor's findings about a guard.

use std::time::Duration;

use tfo_common::counters::Counters;

use super::*;
use crate::{
    doctor::{
        Verdict::{Note, Ok as Fine, Problem, Unknown, Warning},
        finding::testing::{expect, find},
    },
    model::{Guard, PortGuard, PortState},
};

fn judge(on: bool, change: impl FnOnce(&mut GuardFacts)) -> Vec<Finding> {
    let state = GuardState {
        guard: Guard::default(),
        ports: vec![PortState {
            vip: None,
            port: 443,
            rule: PortGuard::default(),
            on,
            since: Some(Duration::from_secs(1)),
            switches: 1,
        }],
        window_scale: 7,
        mss: 0,
        stale: None,
        slot: 0,
    };
    let mut facts = GuardFacts::of(&state, &Snapshot::default());
    facts.syn_cookies = Some(1);
    change(&mut facts);
    facts.judge()
}

#[test]
fn a_guard_that_works_is_fine() {
    let findings = judge(false, |_| ());
    expect(&findings, CHECK, Fine, "1 rule in force; no port");
    assert_eq!(findings.len(), 1);
    expect(&judge(true, |_| ()), CHECK, Note, "guarded now: 443");
}

#[test]
fn what_a_guard_cannot_do_is_named() {
    let findings = judge(false, |facts| {
        facts.syn_cookies = Some(0);
        facts.interfaces.push(interface(false));
        facts.unfit = [(0, 1), (443, 7)].into();
        facts.refused = 3;
        facts.controlled = false;
    });
    expect(
        &findings,
        "guard and SYN cookies",
        Warning,
        "tcp_syncookies = 0",
    );
    expect(&findings, "guard and interface", Warning, "no guard");
    expect(&findings, "guard and listeners", Warning, "others, 443");
    expect(&findings, "guard and kernel", Warning, "refused 3");
    expect(&findings, "guard's secrets", Note, "no controller renews");
    let findings = judge(false, |facts| {
        facts.interfaces.push(interface(false));
    });
    expect(&findings, "guard and interface", Warning, "no guard");
}

fn interface(on: bool) -> GuardedInterface {
    GuardedInterface {
        name: "eth0".to_owned(),
        on,
        obstacle: None,
        before: Vec::new(),
    }
}

#[test]
fn what_a_guard_breaks_is_a_problem() {
    let obstacle = |check, weight| Obstacle {
        check,
        found: "found".to_owned(),
        remedy: "one\ntwo".to_owned(),
        weight,
    };
    let findings = judge(true, |facts| {
        facts.obstacles = vec![
            obstacle("guard and NAT", Weight::Breaks(443)),
            obstacle("guard and netfilter", Weight::Unknown),
            obstacle("guard and SYN cookies", Weight::Idle),
        ];
        let mut unfit = interface(true);
        unfit.obstacle = Some("a port of br0".to_owned());
        let mut second = interface(true);
        second.before = vec![("other".to_owned(), 7)];
        facts.interfaces = vec![unfit, second, interface(true)];
    });
    expect(&findings, "guard and NAT", Problem, "found");
    let remedy = find(&findings, "guard and NAT").remedy.as_deref();
    assert_eq!(remedy, Some("one && two"));
    expect(&findings, "guard and netfilter", Unknown, "found");
    expect(&findings, "guard and device", Problem, "a port of br0");
    expect(&findings, "guard and TCX", Problem, "other (id 7)");
    assert_eq!(findings.len(), 5);
}

#[test]
fn unanswered_challenges_and_busy_sources_are_named() {
    let mut counts = Counters::default();
    counts.add(Counter::GuardChallenged, 50);
    counts.add(Counter::GuardCapped, 3);
    let snapshot = Snapshot {
        ports: [(443, counts)].into(),
        ..Snapshot::default()
    };
    let findings = judge(true, |facts| facts.troubles = troubles(&snapshot));
    expect(
        &findings,
        "guard and answers",
        Warning,
        "50 SYNs were challenged",
    );
    expect(
        &findings,
        "guard and busy sources",
        Note,
        "3 SYNs were not challenged",
    );
}

#[test]
fn counters_say_what_could_not_be_challenged() {
    let mut counts = Counters::default();
    counts.add(Counter::GuardUnfit, 2);
    let snapshot = Snapshot {
        ports: [(80, Counters::default()), (443, counts)].into(),
        ..Snapshot::default()
    };
    let state = GuardState {
        guard: Guard::default(),
        ports: Vec::new(),
        window_scale: 7,
        mss: 0,
        stale: None,
        slot: 0,
    };
    assert_eq!(GuardFacts::of(&state, &snapshot).unfit, [(443, 2)].into());
    assert_eq!(
        named(&(0..6).map(port_name).collect::<Vec<_>>()),
        "others, 1, 2, 3 and 2 more"
    );
}
