//! Packets and small rule sets.

use super::*;

fn rule(place: &str, matches: &[Match], actions: &[Action]) -> Rule {
    Rule {
        place: place.to_owned(),
        matches: matches.to_vec(),
        actions: actions.to_vec(),
    }
}

fn port(port: u16) -> Match {
    Match::Ports {
        ranges: vec![port..=port],
        equal: true,
    }
}

fn base(hook: Hook, priority: i32, drops: bool, rules: Vec<Rule>) -> Chain {
    Chain {
        families: Families::Both,
        base: Some(Base {
            hook,
            priority,
            drops,
            translates: false,
        }),
        rules,
    }
}

fn way(chains: &[(&str, Chain)], port: u16, state: u8) -> Way {
    let chains = chains
        .iter()
        .map(|(key, chain)| ((*key).to_owned(), chain.clone()));
    let ruleset = Ruleset {
        chains: chains.collect(),
    };
    ruleset.way(Packet {
        family: Families::V4,
        port: Port::Is(port),
        flags: ACK,
        state,
        hook: Hook::Input,
    })
}

#[test]
fn a_jump_passes_on_what_its_rule_matches() {
    let jump = rule("a", &[port(80)], &[Action::Jump("sub".into())]);
    let dnat = rule("b", &[Match::Unknown], &[Action::Translate("dnat")]);
    let chains = [
        ("pre", base(Hook::Prerouting, -100, false, vec![jump])),
        (
            "sub",
            Chain {
                families: Families::V4,
                base: None,
                rules: vec![dnat],
            },
        ),
    ];
    let found = way(&chains, 80, NEW);
    assert_eq!(found.translated, [("b".to_owned(), "dnat")].into());
    assert_eq!(way(&chains, 81, NEW), Way::default());
}

#[test]
fn a_certain_accept_ends_the_way_and_an_uncertain_one_does_not() {
    let drop = rule("drop", &[], &[Action::Drop]);
    for (matches, dropped) in [(vec![port(80)], 0), (vec![port(80), Match::Unknown], 1)] {
        let accept = rule("accept", &matches, &[Action::Accept]);
        let chain = base(Hook::Input, 0, true, vec![accept, drop.clone()]);
        assert_eq!(way(&[("in", chain)], 80, NEW).dropped.len(), dropped);
    }
}

#[test]
fn a_policy_drops_what_comes_to_the_end() {
    let new = Match::State {
        states: NEW,
        equal: true,
    };
    let accept = rule("accept", &[new], &[Action::Accept]);
    let chains = [("in", base(Hook::Input, 0, true, vec![accept]))];
    assert_eq!(way(&chains, 80, NEW), Way::default());
    let dropped = way(&chains, 80, INVALID).dropped;
    assert_eq!(
        dropped,
        [("in: policy drop".to_owned(), "in".to_owned())].into()
    );
}

#[test]
fn untracked_is_what_a_rule_before_conntrack_certainly_matches() {
    for (priority, matches, untracked) in [
        (-300, vec![port(80)], true),
        (-300, vec![port(81)], false),
        (-300, vec![Match::Unknown], false),
        (-150, vec![port(80)], false),
    ] {
        let rules = vec![rule("raw", &matches, &[Action::NoTrack])];
        let chains = [("raw", base(Hook::Prerouting, priority, false, rules))];
        assert_eq!(way(&chains, 80, NEW).untracked, untracked, "{matches:?}");
    }
}

#[test]
fn ports_without_a_rule_of_their_own_are_many() {
    let own = [80, 443].into();
    let others = Port::NoneOf(&own);
    assert_eq!(port_in(others, &[80..=80, 443..=443]), Some(false));
    assert_eq!(port_in(others, &[80..=81]), None);
    assert_eq!(port_in(others, &[0..=u16::MAX]), Some(true));
    assert_eq!(port_in(Port::Is(8080), &[8000..=8100]), Some(true));
}

#[test]
fn loops_end() {
    let goto = rule("a", &[], &[Action::Goto("in".into())]);
    let chains = [("in", base(Hook::Input, 0, false, vec![goto]))];
    assert_eq!(way(&chains, 80, NEW), Way::default());
}
