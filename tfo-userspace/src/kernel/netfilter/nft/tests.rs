//! Rules as nft 1.0.6 prints them.

use super::*;
use crate::kernel::netfilter::rules::{Packet, Port};

/// The kinds of translations that a SYN to each port meets in a chain at prerouting with these rules.
fn translated(rules: &[&str], port: u16) -> usize {
    let rules: Vec<_> = rules
        .iter()
        .enumerate()
        .map(|(handle, expressions)| {
            format!(
                r#"{{"rule": {{"family": "inet", "table": "t", "chain": "pre", "handle": {handle},
                    "expr": [{expressions}]}}}}"#
            )
        })
        .collect();
    let text = format!(
        r#"{{"nftables": [
        {{"metainfo": {{"version": "1.0.6"}}}},
        {{"set": {{"family": "inet", "name": "ports", "table": "t", "type": "inet_service",
                   "elem": [80, {{"range": [8000, 8100]}}, {{"elem": {{"val": 9, "timeout": 5}}}}]}}}},
        {{"map": {{"family": "inet", "name": "m", "table": "t", "elem": [[80, {{"concat": ["10.0.0.2", 8080]}}]]}}}},
        {{"map": {{"family": "inet", "name": "vm", "table": "t", "map": "verdict",
                   "elem": [[{{"concat": ["10.0.0.1", "tcp", 443]}}, {{"goto": {{"target": "other"}}}}]]}}}},
        {{"chain": {{"family": "inet", "table": "t", "name": "other", "handle": 1}}}},
        {{"chain": {{"family": "inet", "table": "t", "name": "pre", "type": "nat", "hook": "prerouting",
                     "prio": -100, "policy": "accept"}}}},
        {{"rule": {{"family": "inet", "table": "t", "chain": "other", "handle": 99, "expr": [
            {{"match": {{"op": "==", "left": {{"payload": {{"protocol": "ip", "field": "protocol"}}}}, "right": "tcp"}}}},
            {{"dnat": {{"family": "ip", "addr": "10.0.0.9", "port": 80}}}}]}}}},
        {}]}}"#,
        rules.join(",")
    );
    let (ruleset, _) = parse(&text).unwrap();
    let way = ruleset.way(Packet {
        family: Families::V4,
        port: Port::Is(port),
        flags: SYN,
        state: NEW,
        hook: Hook::Input,
    });
    way.translated.len()
}

fn dport(operator: &str, right: &str) -> String {
    format!(
        r#"{{"match": {{"op": "{operator}", "left": {{"payload": {{"protocol": "tcp", "field": "dport"}}}},
           "right": {right}}}}}"#
    )
}

/// Expressions as nft 1.0.6 prints them.
#[test]
fn a_rule_counts_if_it_may_concern_the_port() {
    const TO: &str = r#"{"dnat": {"family": "ip", "addr": "10.0.0.2"}}"#;
    const REDIRECT: &str = r#"{"redirect": {"port": 22}}"#;
    let cases: [(String, &[u16], &[u16]); 11] = [
        (format!("{},{TO}", dport("==", "80")), &[80], &[81]),
        (format!("{},{TO}", dport("==", "\"@ports\"")), &[80, 8050, 9], &[81]),
        (format!("{},{TO}", dport("==", "\"@unknown\"")), &[80, 81], &[]),
        (format!("{},{REDIRECT}", dport("==", r#"{"range": [100, 200]}"#)), &[100, 200], &[99]),
        (
            format!("{},{REDIRECT}", dport("==", r#"{"set": [1, {"range": [5, 7]}]}"#)),
            &[1, 6],
            &[2],
        ),
        (format!("{},{REDIRECT}", dport("!=", "22")), &[80], &[22]),
        (TO.to_owned(), &[80, 443], &[]),
        (
            r#"{"dnat": {"addr": {"map": {"key": {"payload": {"protocol": "tcp", "field": "dport"}}, "data": "@m"}}}}"#
                .to_owned(),
            &[80],
            &[81],
        ),
        (
            r#"{"vmap": {"key": {"concat": [{"payload": {"protocol": "ip", "field": "daddr"}},
                {"meta": {"key": "l4proto"}}, {"payload": {"protocol": "th", "field": "dport"}}]}, "data": "@vm"}}"#
                .to_owned(),
            &[443],
            &[80],
        ),
        (
            r#"{"match": {"op": "==", "left": {"payload": {"protocol": "udp", "field": "dport"}}, "right": 53}},
               {"redirect": null}"#
                .to_owned(),
            &[],
            &[53, 80],
        ),
        (
            r#"{"match": {"op": "==", "left": {"meta": {"key": "iifname"}}, "right": "x"}},
               {"jump": {"target": "other"}}"#
                .to_owned(),
            &[80],
            &[],
        ),
    ];
    for (expressions, concerned, others) in cases {
        for (ports, count) in [(concerned, 1), (others, 0)] {
            for port in ports {
                assert_eq!(
                    translated(&[&expressions], *port),
                    count,
                    "{port}: {expressions}"
                );
            }
        }
    }
}

#[test]
fn an_accept_before_exempts_a_port() {
    let accept = format!("{},{}", dport("==", "80"), r#"{"accept": null}"#);
    let redirect = r#"{"redirect": null}"#;
    assert_eq!(translated(&[&accept, redirect], 80), 0);
    assert_eq!(translated(&[&accept, redirect], 443), 1);
}

/// The address may be another one.
#[test]
fn a_key_of_several_fields_is_never_certain() {
    let key = serde_json::json!({ "concat": [
        { "payload": { "protocol": "ip", "field": "saddr" } },
        { "payload": { "protocol": "tcp", "field": "dport" } },
    ] });
    let elements = [serde_json::json!({ "concat": ["10.0.0.1", 443] })];
    let ranges = vec![443..=443];
    assert_eq!(keys(&key, &elements), Match::PortsAndMore { ranges });
}

#[test]
fn conditions_on_state_and_flags_are_read() {
    let reader = Reader {
        table: String::new(),
        sets: &Sets::new(),
    };
    let condition = |text: &str| reader.condition(&serde_json::from_str(text).unwrap());
    let state = |states, equal| Match::State { states, equal };
    for (text, expected) in [
        (
            r#"{"op": "in", "left": {"ct": {"key": "state"}}, "right": "invalid"}"#,
            state(INVALID, true),
        ),
        (
            r#"{"op": "in", "left": {"ct": {"key": "state"}}, "right": ["established", "related"]}"#,
            state(ESTABLISHED | RELATED, true),
        ),
        (
            r#"{"op": "==", "left": {"ct": {"key": "state"}}, "right": {"set": ["established", "new"]}}"#,
            state(ESTABLISHED | NEW, true),
        ),
        (
            r#"{"op": "!=", "left": {"ct": {"key": "state"}}, "right": "new"}"#,
            state(NEW, false),
        ),
        (
            r#"{"op": "!=", "left": {"&": [{"payload": {"protocol": "tcp", "field": "flags"}},
                ["fin", "syn", "rst", "ack"]]}, "right": "syn"}"#,
            Match::Flags {
                mask: FIN | SYN | RST | ACK,
                value: SYN,
                equal: false,
            },
        ),
        (
            r#"{"op": "!", "left": {"payload": {"protocol": "tcp", "field": "flags"}}, "right": "syn"}"#,
            Match::Flags {
                mask: SYN,
                value: 0,
                equal: true,
            },
        ),
        (
            r#"{"op": "in", "left": {"payload": {"protocol": "tcp", "field": "flags"}}, "right": "syn"}"#,
            Match::Flags {
                mask: SYN,
                value: 0,
                equal: false,
            },
        ),
        (
            r#"{"op": "==", "left": {"meta": {"key": "mark"}}, "right": 5}"#,
            Match::Unknown,
        ),
    ] {
        assert_eq!(condition(text), expected, "{text}");
    }
}

#[test]
fn extensions_of_iptables_are_told_apart_by_table() {
    let text = r#"{"nftables": [
        {"chain": {"family": "ip", "table": "nat", "name": "PREROUTING", "hook": "prerouting", "prio": -100}},
        {"rule": {"family": "ip", "table": "nat", "chain": "PREROUTING", "handle": 3, "expr": [
            {"xt": {"type": "match", "name": "multiport"}}, {"xt": {"type": "target", "name": "REDIRECT"}}]}},
        {"rule": {"family": "ip", "table": "nat", "chain": "PREROUTING", "handle": 4, "expr": [{"xt": null}]}}]}"#;
    let (ruleset, xt) = parse(text).unwrap();
    assert_eq!(xt, ["ip nat".to_owned()].into());
    let rules = &ruleset.chains["ip nat PREROUTING"].rules;
    assert_eq!(rules[0].matches, [Match::Unknown]);
    assert_eq!(rules[0].actions, [Action::Translate("REDIRECT")]);
    assert!(parse("{}").is_err() && parse("").is_err());
}
