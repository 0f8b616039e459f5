//! Renders the facts of namespaces as metrics.

use std::time::{Duration, SystemTime};

use tfo_common::{
    abi::{COUNTER_SLOTS, LAYOUT_VERSION},
    counters::{Counter, Counters},
};

use super::{
    facts::{InterfaceFacts, NamespaceFacts, PARTS, ServiceFacts},
    family::Families,
    farm::add_farm,
    guard::{add_guard, add_reactions},
    merge::merge,
    table::{
        ASKERS, ATTACHED, BUILD_INFO, DATAPATH, DRIFT, DRY_RUN_ACTIONS, DRY_RUN_CAUSES,
        EVENTS_LOST, GUARD_EDGE_HOSTS, GUARD_EDGE_TAKEN, INTERFACE, KERNEL, KEY_AGE, KEY_FAILURES,
        KEY_FOREIGN, KEY_INFO, KEY_NEXT, KEY_ROTATIONS, KEYS_AGREE, LISTENERS_REFUSED, MAP_ENTRIES,
        MAP_MEMORY, MAP_ROOM, NAMESPACES, NO_COOKIE, OWN_COOKIES_REFUSED, POLICY_ACTIONS,
        POLICY_CAUSES, POLICY_DRY_RUN, POLICY_PREFIXES, POLICY_REFUSED, POLICY_RULES,
        POLICY_WITHHELD, PORT, READ_TIME, REASONS, SCRAPE_ERROR, SERVER, SYN_DATA, SYSCTL,
    },
};
use crate::datapath::{Snapshot, slug};

/// The kernel's counters that are exported: those of Fast Open, as a server and as a client, and those of conditions
/// that turn it off.
const KERNEL_COUNTERS: [&str; 15] = [
    "TCPFastOpenActive",
    "TCPFastOpenActiveFail",
    "TCPFastOpenPassive",
    "TCPFastOpenPassiveFail",
    "TCPFastOpenListenOverflow",
    "TCPFastOpenCookieReqd",
    "TCPFastOpenBlackhole",
    "TCPFastOpenPassiveAltKey",
    "SyncookiesSent",
    "SyncookiesRecv",
    "SyncookiesFailed",
    "ListenOverflows",
    "ListenDrops",
    "TCPReqQFullDoCookies",
    "TCPReqQFullDrop",
];

/// The metrics of a service and of its process, in Prometheus's text format, version 0.0.4.
pub fn render(service: &ServiceFacts) -> String {
    let mut families = Families::default();
    let layout = LAYOUT_VERSION.to_string();
    let version = env!("CARGO_PKG_VERSION");
    families.add(&BUILD_INFO, &[version, &layout], true);
    for (state, number) in service.counts.by_state() {
        families.add(&NAMESPACES, &[state], number);
    }
    add_namespaces(&mut families, &service.namespaces);
    let others = service.others.iter().map(|other| other.metrics.as_str());
    merge(&families.text_with_process(), others)
}

/// The metrics of these namespaces alone, for [`render`] in another process.
pub fn render_namespaces(namespaces: &[NamespaceFacts]) -> String {
    let mut families = Families::default();
    add_namespaces(&mut families, namespaces);
    families.text()
}

fn add_namespaces(families: &mut Families, namespaces: &[NamespaceFacts]) {
    families.declare(&GUARD_EDGE_TAKEN);
    families.declare(&GUARD_EDGE_HOSTS);
    for facts in namespaces {
        add_kernel(families, facts);
        add_keys(families, facts);
        add_policy(families, facts);
        add_guard(families, facts);
        let refused = facts.own_cookies_refused.is_some();
        families.add(&OWN_COOKIES_REFUSED, &[&facts.target.netns], refused);
        let refused = facts.listeners_refused.is_some();
        families.add(&LISTENERS_REFUSED, &[&facts.target.netns], refused);
        if let Some(farm) = &facts.farm {
            add_farm(families, &facts.target.netns, farm);
        }
        for interface in &facts.interfaces {
            add_interface(families, &facts.target.netns, interface);
            if let Some(counters) = &interface.counters {
                add_ports(families, facts, &interface.name, counters);
            }
        }
        add_scrape(families, facts);
    }
}

fn add_kernel(families: &mut Families, facts: &NamespaceFacts) {
    let netns = facts.target.netns.as_str();
    for name in KERNEL_COUNTERS {
        // An older kernel lacks some of them.
        if let Some(value) = facts.kernel.as_ref().and_then(|kernel| kernel.get(name)) {
            families.add(&KERNEL, &[netns, name], value);
        }
    }
    if let Some(drift) = &facts.drift {
        for (counter, by) in Counter::MIRRORED.into_iter().zip(drift.drift()) {
            families.add(&DRIFT, &[netns, counter.name()], by);
        }
    }
    if let Some(mode) = facts.fast_open {
        families.add(&SYSCTL, &[netns], mode.0);
        families.add(&SERVER, &[netns], mode.server());
        families.add(&NO_COOKIE, &[netns], mode.no_cookie());
    }
    for (map, bytes) in &facts.memory {
        families.add(&MAP_MEMORY, &[netns, map], *bytes);
    }
}

fn add_keys(families: &mut Families, facts: &NamespaceFacts) {
    let netns = facts.target.netns.as_str();
    let report = facts.keys.as_ref();
    let primary = report.and_then(|report| report.primary);
    let primary = primary.or(facts.fingerprints.first().copied());
    let primary = primary.map_or(String::new(), |it| it.to_string());
    let source = report.map_or("", |report| report.source);
    families.add(&KEY_INFO, &[netns, source, &primary], true);
    let since = report.and_then(|report| report.since);
    // After the clock was set back, the age is 0 and not negative.
    let age = since.map(|since| since.elapsed().unwrap_or(Duration::ZERO));
    if let Some(age) = age.or(facts.keys_age) {
        families.add(&KEY_AGE, &[netns], age);
    }
    if let Some(agree) = facts.keys_agree {
        families.add(&KEYS_AGREE, &[netns], agree);
    }
    let Some(report) = report else { return };
    if let Some(next) = report.next.filter(|next| *next > SystemTime::UNIX_EPOCH) {
        families.add(&KEY_NEXT, &[netns], next);
    }
    families.add(&KEY_ROTATIONS, &[netns], report.rotations);
    families.add(&KEY_FAILURES, &[netns], report.failures);
    families.add(&KEY_FOREIGN, &[netns], report.foreign_changes);
}

fn add_policy(families: &mut Families, facts: &NamespaceFacts) {
    let netns = facts.target.netns.as_str();
    if let Some(policy) = facts.policy {
        families.add(&POLICY_RULES, &[netns], policy.rules);
        families.add(&POLICY_DRY_RUN, &[netns], policy.dry_run);
        families.add(&POLICY_PREFIXES, &[netns], policy.prefixes);
    }
    if let Some(withheld) = facts.withheld {
        families.add(&POLICY_WITHHELD, &[netns], withheld);
    }
    families.add(&POLICY_REFUSED, &[netns], facts.policy_refused.is_some());
}

fn add_interface(families: &mut Families, netns: &str, facts: &InterfaceFacts) {
    let name = facts.name.as_str();
    families.add(&ATTACHED, &[netns, name], facts.mode.is_some());
    if let Some((mode, mirror)) = facts.mode.zip(facts.mirror) {
        let (mode, mirror) = (mode.to_string(), mirror.to_string());
        families.add(&INTERFACE, &[netns, name, &mode, &mirror], true);
    }
    if let Some(counters) = &facts.counters {
        for counter in Counter::ALL.into_iter().filter(|it| !has_own_family(*it)) {
            let metric = if Counter::REASONS.contains(&counter) {
                &REASONS
            } else {
                &DATAPATH
            };
            let value = counters.total.get(counter);
            families.add(metric, &[netns, name, counter.name()], value);
        }
        families.add(&MAP_ENTRIES, &[netns, name, "ports"], counters.ports.len());
        families.add(&MAP_ROOM, &[netns, name, "ports"], COUNTER_SLOTS - 1);
        if let Some(sizes) = &facts.sizes {
            let bytes = counters.total.get(Counter::SynDataBytes);
            families.add_sizes(&SYN_DATA, &[netns, name], sizes, bytes);
        }
    }
    if let Some([kept, asking]) = facts.sources {
        families.add(&MAP_ENTRIES, &[netns, name, "sources"], kept);
        families.add(&ASKERS, &[netns, name], asking);
    }
    if let Some(max) = facts.max_sources {
        families.add(&MAP_ROOM, &[netns, name, "sources"], max);
    }
    if let Some(lost) = facts.lost {
        families.add(&EVENTS_LOST, &[netns, name, "rate"], lost.over_rate);
        families.add(&EVENTS_LOST, &[netns, name, "ring"], lost.ring_full);
    }
}

/// Adds the counters of the target's ports, and of all others as `other`. Without any, adds those of all ports with no
/// `port` label.
fn add_ports(families: &mut Families, facts: &NamespaceFacts, name: &str, counters: &Snapshot) {
    let target = &facts.target;
    if target.ports.is_empty() {
        let labels = [&target.netns, name, ""];
        add_actions(families, labels, &counters.total);
        return add_reactions(families, labels, &counters.total);
    }
    let mut add = |port: &str, counts: &Counters| {
        add_actions(families, [&target.netns, name, port], counts);
        add_reactions(families, [&target.netns, name, port], counts);
        for counter in Counter::ALL.into_iter().filter(|it| !has_own_family(*it)) {
            let labels = [&target.netns, name, port, counter.name()];
            families.add(&PORT, &labels, counts.get(counter));
        }
    };
    let mut other = counters.other;
    for (port, counts) in &counters.ports {
        if !target.ports.contains(port) {
            other += *counts;
        }
    }
    for port in &target.ports {
        let none = Counters::default();
        let counts = counters.ports.get(port).unwrap_or(&none);
        add(&port.to_string(), counts);
    }
    add("other", &other);
}

/// `true` for a counter with a metric family of its own.
fn has_own_family(counter: Counter) -> bool {
    Counter::POLICY.contains(&counter)
        || Counter::DRY_RUN.contains(&counter)
        || Counter::GUARD.contains(&counter)
}

/// Adds the actions of policies and their causes, carried out and dry run.
fn add_actions(families: &mut Families, [netns, name, port]: [&str; 3], counts: &Counters) {
    for (counters, actions, causes) in [
        (Counter::POLICY, &POLICY_ACTIONS, &POLICY_CAUSES),
        (Counter::DRY_RUN, &DRY_RUN_ACTIONS, &DRY_RUN_CAUSES),
    ] {
        for (at, counter) in counters.into_iter().enumerate() {
            let metric = if at < Counter::POLICY_ACTIONS {
                actions
            } else {
                causes
            };
            let labels = [netns, name, port, &slug(counter)];
            families.add(metric, &labels, counts.get(counter));
        }
    }
}

fn add_scrape(families: &mut Families, facts: &NamespaceFacts) {
    let netns = facts.target.netns.as_str();
    families.add(&READ_TIME, &[netns], facts.took);
    for part in PARTS {
        let failed = facts.errors.contains_key(part);
        families.add(&SCRAPE_ERROR, &[netns, part], failed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{keys::KeyReport, metrics::ScrapeTarget};

    /// The value of a series in `text`.
    fn value<'a>(text: &'a str, series: &str) -> Option<&'a str> {
        let mut lines = text.lines();
        lines.find_map(|line| line.strip_prefix(series)?.strip_prefix(' '))
    }

    #[test]
    fn what_the_keeper_of_the_keys_says_is_told() {
        let next = SystemTime::UNIX_EPOCH + Duration::from_secs(2_000_000_000);
        let facts = NamespaceFacts {
            target: ScrapeTarget {
                netns: "blue".to_owned(),
                ..ScrapeTarget::default()
            },
            keys_age: Some(Duration::from_secs(7)),
            keys: Some(KeyReport {
                source: "secret",
                next: Some(next),
                rotations: 4,
                failures: 2,
                foreign_changes: 1,
                ..KeyReport::default()
            }),
            ..NamespaceFacts::default()
        };
        let text = render_namespaces(&[facts.clone(), NamespaceFacts::default()]);
        for (series, expected) in [
            (r#"tfo_key_info{netns="blue",source="secret"}"#, "1"),
            (r#"tfo_key_age_seconds{netns="blue"}"#, "7"),
            (r#"tfo_key_rotations_total{netns="blue"}"#, "4"),
            (r#"tfo_key_failures_total{netns="blue"}"#, "2"),
            (r#"tfo_key_foreign_changes_total{netns="blue"}"#, "1"),
            (
                r#"tfo_key_next_rotation_timestamp_seconds{netns="blue"}"#,
                "2000000000",
            ),
            // The other namespace, the controller's own, has no netns label.
            (r#"tfo_scrape_error{part="keys"}"#, "0"),
        ] {
            assert_eq!(value(&text, series), Some(expected), "{series}\n{text}");
        }
        assert_eq!(value(&text, "tfo_key_rotations_total"), None);

        // The keeper's report takes precedence over the pinned age; a clock that was set back gives age 0.
        let mut facts = facts;
        if let Some(report) = &mut facts.keys {
            report.since = Some(SystemTime::now() + Duration::from_secs(60));
        }
        let text = render_namespaces(&[facts]);
        assert_eq!(
            value(&text, r#"tfo_key_age_seconds{netns="blue"}"#),
            Some("0")
        );
    }

    #[test]
    fn names_that_need_it_are_escaped() {
        let mut facts = NamespaceFacts::default();
        facts.interfaces.push(InterfaceFacts {
            name: "a\"b\\c".to_owned(),
            ..InterfaceFacts::default()
        });
        let text = render_namespaces(&[facts]);
        let series = r#"tfo_interface_attached{interface="a\"b\\c"}"#;
        assert_eq!(value(&text, series), Some("0"), "{text}");
    }
}
