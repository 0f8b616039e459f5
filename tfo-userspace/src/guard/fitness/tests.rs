//! Guards and rule sets in which they cannot work.

use super::*;
use crate::{
    kernel::netfilter::Unread,
    model::{ChallengeSecret, EdgeGuard, EdgeService, PortGuard},
};

fn guard(default: bool, ports: &[(u16, GuardMode)]) -> Guard {
    let rule = |mode| PortGuard {
        mode,
        ..PortGuard::default()
    };
    Guard {
        default: default.then(|| rule(GuardMode::Auto)),
        ports: ports
            .iter()
            .map(|(port, mode)| (*port, rule(*mode)))
            .collect(),
        ..Guard::default()
    }
}

fn host(rules: &str) -> Netfilter {
    Netfilter::of_iptables(rules)
}

const NAT: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 443 -j REDIRECT --to-ports 1\n";
const STATEFUL: &str = "*filter\n:INPUT DROP [0:0]\n-A INPUT -m conntrack --ctstate RELATED,ESTABLISHED -j ACCEPT\n\
                        -A INPUT -p tcp -m tcp --dport 443 -m conntrack --ctstate NEW -j ACCEPT\n";

fn weights(guard: &Guard, netfilter: &Netfilter) -> Vec<Weight> {
    let obstacles = judge(guard, netfilter, Some(1));
    obstacles.iter().map(|each| each.weight).collect()
}

/// Forwarded packets meet other chains than incoming ones.
#[test]
fn edges_meet_the_rules_for_what_is_forwarded() {
    let edge = EdgeGuard {
        rule: PortGuard {
            mode: GuardMode::On,
            ..PortGuard::default()
        },
        ..EdgeGuard::default()
    };
    let service = EdgeService {
        vip: "198.51.100.7".parse().unwrap(),
        port: 443,
    };
    let edges = Guard {
        edges: [(service, edge)].into(),
        ..Guard::default()
    };
    let forward = STATEFUL.replace("INPUT", "FORWARD");
    let breaks = [Weight::BreaksBehind(443)];
    assert_eq!(weights(&edges, &host(STATEFUL)), []);
    assert_eq!(weights(&edges, &host(&forward)), breaks);
    // The port is translated, and whatever else may be.
    assert_eq!(weights(&edges, &host(NAT)), [breaks, breaks].concat());
    let masquerade = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\n";
    assert_eq!(weights(&edges, &host(masquerade)), breaks);
    assert_eq!(
        weights(&guard(false, &[(443, GuardMode::On)]), &host(&forward)),
        []
    );
    let obstacles = judge(&edges, &host(&forward), Some(0));
    assert!(without(&edges, &obstacles).edges.is_empty());
    let remedy = &obstacles[0].remedy;
    for part in [
        "prerouting ip saddr 198.51.100.7/32 tcp sport 443 notrack",
        "-I FORWARD -p tcp --dport 443",
        "-I FORWARD -p tcp --sport 443",
    ] {
        assert!(remedy.contains(part), "{remedy}");
    }
}

/// A port whose own guard is off takes the answers to others' challenges.
#[test]
fn a_port_that_takes_answers_of_others_counts() {
    let off = guard(false, &[(443, GuardMode::Off)]);
    let shared = Guard {
        secret: Some(ChallengeSecret::new(tfo_common::fastopen::Key::ZERO)),
        ..off.clone()
    };
    assert_eq!(weights(&off, &host(STATEFUL)), []);
    assert_eq!(weights(&shared, &host(STATEFUL)), [Weight::Breaks(443)]);
}

#[test]
fn only_ports_that_may_be_guarded_count() {
    use GuardMode::{Auto, Off, On};
    use Weight::Breaks;
    for (guard, expected) in [
        (guard(false, &[(443, On)]), vec![Breaks(443)]),
        (guard(false, &[(443, Auto), (80, On)]), vec![Breaks(443)]),
        (guard(false, &[(443, Off), (80, On)]), vec![]),
        (guard(true, &[]), vec![Breaks(0)]),
        (guard(true, &[(443, On)]), vec![Breaks(443)]),
        (guard(true, &[(443, Off)]), vec![]),
        (guard(true, &[(80, Off)]), vec![Breaks(0)]),
    ] {
        let obstacles = judge(&guard, &host(NAT), Some(1)).into_iter();
        let of_ports = obstacles.filter(|each| each.check == "guard and NAT");
        let found: Vec<_> = of_ports.map(|each| each.weight).collect();
        assert_eq!(found, expected, "{guard:?}");
    }
}

/// NAT of whatever port, where the packets of this one are tracked.
#[test]
fn nat_of_others_takes_the_connection_away() {
    const EXEMPT: &str =
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 443 -j CT --notrack\n";
    const MASQUERADE: &str = "*nat\n:POSTROUTING ACCEPT [0:0]\n-A POSTROUTING -j MASQUERADE\n";
    const LOCAL: &str = "*nat\n:OUTPUT ACCEPT [0:0]\n-A OUTPUT -p tcp -m tcp --dport 99 -j DNAT --to-destination 10.9.9.9\n";
    const EMPTY: &str = "*nat\n:PREROUTING ACCEPT [0:0]\n";
    const TRACKED: &str =
        "*filter\n:INPUT ACCEPT [0:0]\n-A INPUT -m conntrack --ctstate ESTABLISHED -j ACCEPT\n";
    let on = guard(false, &[(443, GuardMode::On)]);
    for (rules, breaks) in [
        (MASQUERADE.to_owned(), true),
        (format!("{EXEMPT}{MASQUERADE}"), false),
        (LOCAL.to_owned(), true),
        (EMPTY.to_owned(), false),
        (format!("{EMPTY}{TRACKED}"), true),
        (TRACKED.to_owned(), false),
    ] {
        let expected = if breaks {
            vec![Weight::Breaks(443)]
        } else {
            vec![]
        };
        assert_eq!(weights(&on, &host(&rules)), expected, "{rules}");
    }
}

#[test]
fn what_breaks_is_left_out() {
    let all = guard(true, &[(443, GuardMode::On), (80, GuardMode::On)]);
    let left = |weights: &[Weight]| {
        let obstacle = |weight: &Weight| Obstacle {
            check: "",
            found: String::new(),
            remedy: String::new(),
            weight: *weight,
        };
        let obstacles: Vec<_> = weights.iter().map(obstacle).collect();
        let left = without(&all, &obstacles);
        let mut ports: Vec<_> = active(&left).into_iter().map(|(_, port)| port).collect();
        ports.sort_unstable();
        ports
    };
    assert_eq!(left(&[Weight::Idle, Weight::Unknown]), [0, 80, 443]);
    // The default rule must not apply to the port instead.
    assert_eq!(left(&[Weight::Breaks(443)]), [0, 80]);
    assert_eq!(left(&[Weight::Breaks(0)]), [80, 443]);
}

#[test]
fn commands_are_those_of_the_firewall() {
    let obstacles = judge(
        &guard(false, &[(443, GuardMode::On)]),
        &host(STATEFUL),
        Some(1),
    );
    let [obstacle] = obstacles.as_slice() else {
        panic!("{obstacles:?}")
    };
    assert_eq!(
        (obstacle.check, obstacle.weight),
        ("guard and conntrack", Weight::Breaks(443))
    );
    let last = obstacle.remedy.lines().last();
    let accept = "iptables-legacy -t filter -I INPUT -p tcp --dport 443 -m conntrack --ctstate UNTRACKED -j ACCEPT";
    assert_eq!(last, Some(accept));
    assert!(
        obstacle
            .text()
            .contains("\n  nft add table inet tfo_guard\n")
    );
    assert!(!obstacle.short_remedy().contains('\n'));
    // With those rules in force.
    let raw =
        "*raw\n:PREROUTING ACCEPT [0:0]\n-A PREROUTING -p tcp -m tcp --dport 443 -j CT --notrack\n";
    let mut exempt = host(&format!("{raw}{STATEFUL}"));
    exempt.strict = true;
    assert_eq!(weights(&guard(false, &[(443, GuardMode::On)]), &exempt), []);
    // The default rule is of too many ports to exempt them.
    let many = judge(&guard(true, &[]), &host(STATEFUL), Some(1));
    assert!(
        many[0].remedy.contains("give rules to single ports"),
        "{many:?}"
    );
}

#[test]
fn what_does_nothing_or_is_not_known_is_no_refusal() {
    let mut netfilter = host("");
    netfilter.unread.push(Unread {
        found: "rules".to_owned(),
        remedy: "install it".to_owned(),
    });
    let obstacles = judge(&guard(true, &[]), &netfilter, Some(0));
    assert_eq!(obstacles.len(), 2);
    assert!(!obstacles.iter().any(Obstacle::refuses), "{obstacles:?}");
}
