//! The policy as text and as JSON.

use serde_json::{Map, Value, json};
use tfo_common::policy::{Class, Limit};
use tfo_userspace::model::{
    LimitedSources, OnceMemory, Policy, PortPolicy, exact_time, format_rate,
};

use crate::cli::output::{self, print_json, rate_json, table};

/// Prints the policy; `None` if there is none.
pub(super) fn print(policy: Option<&Policy>, json: bool) -> anyhow::Result<()> {
    match (policy, json) {
        (Some(policy), true) => print_json(&to_json(policy)),
        (None, true) => print_json(&json!({ "in_force": false })),
        (Some(policy), false) => output::print(&text(policy)),
        (None, false) => output::print("no policy: every SYN passes\n"),
    }
}

/// The rules with their names, the default rule first.
fn rules(policy: &Policy) -> impl Iterator<Item = (String, &PortPolicy)> {
    let ports = policy.ports.iter();
    let ports = ports.map(|(port, rule)| (port.to_string(), rule));
    std::iter::once(("default".to_owned(), &policy.default)).chain(ports)
}

fn text(policy: &Policy) -> String {
    let mut heads = vec!["port".to_owned()];
    heads.extend(Class::ALL.map(|class| class.name().to_owned()));
    heads.extend(["denied".to_owned(), "no-cookie".into()]);
    let (mut actions, mut limits, mut once) = (vec![heads], Vec::new(), Vec::new());
    let mut withhold = Vec::new();
    for (name, rule) in rules(policy) {
        let mut row = vec![name.clone()];
        row.extend(rule.actions.map(|action| action.name().to_owned()));
        row.extend([rule.denied, rule.no_cookie].map(|action| action.name().to_owned()));
        if rule.dry_run {
            row.push("dry run".to_owned());
        }
        actions.push(row);
        if rule.remembers() {
            once.push(format!("{name} by {}", rule.once_by.name()));
        }
        if rule.withholds() {
            withhold.push(format!("{name} for {}", exact_time(rule.withhold)));
        }
        for (class, Limit { source, port }) in Class::ALL.into_iter().zip(rule.limits) {
            if source.is_unlimited() && port.is_unlimited() {
                continue;
            }
            let label = format!("{name} {}", class.name());
            limits.push(vec![label, format_rate(source), format_rate(port)]);
        }
    }
    let mut text = table(&actions);
    if !limits.is_empty() {
        let heads = ["limits", "per source", "per port"].map(str::to_owned);
        limits.insert(0, heads.to_vec());
        let LimitedSources { max, v4, v6 } = policy.sources;
        text += &format!(
            "\n{}sources by /{v4} and /{v6}, at most {max}\n",
            table(&limits)
        );
    }
    if !once.is_empty() {
        let OnceMemory { lifetime, capacity } = policy.once;
        text += &format!(
            "\nonce: {}; remembers {capacity} SYNs for {}\n",
            once.join(", "),
            exact_time(lifetime)
        );
    }
    if !withhold.is_empty() {
        let LimitedSources { v4, v6, .. } = policy.sources;
        text += &format!(
            "\nwithhold: {}; sources by /{v4} and /{v6}\n",
            withhold.join(", ")
        );
    }
    if !policy.lists.is_empty() {
        let (allow, deny) = (policy.lists.allow.len(), policy.lists.deny.len());
        text += &format!("\nlists: {allow} allowed, {deny} denied\n");
    }
    text
}

fn to_json(policy: &Policy) -> Value {
    let LimitedSources { max, v4, v6 } = policy.sources;
    let ports = policy.ports.iter();
    let ports: Map<_, _> = ports
        .map(|(port, rule)| (port.to_string(), rule_json(rule)))
        .collect();
    json!({
        "in_force": true,
        "sources": { "max": max, "prefix_v4": v4, "prefix_v6": v6 },
        "once": { "lifetime_seconds": policy.once.lifetime.as_secs(), "capacity": policy.once.capacity },
        "lists": { "allow": policy.lists.allow.len(), "deny": policy.lists.deny.len() },
        "default": rule_json(&policy.default),
        "ports": ports,
    })
}

fn rule_json(rule: &PortPolicy) -> Value {
    let classes = Class::ALL.map(Class::name).into_iter();
    let actions = rule.actions.map(|action| Value::from(action.name()));
    let limits = rule.limits.map(
        |Limit { source, port }| json!({ "source": rate_json(source), "port": rate_json(port) }),
    );
    json!({
        "actions": classes.clone().map(str::to_owned).zip(actions).collect::<Map<_, _>>(),
        "limits": classes.map(str::to_owned).zip(limits).collect::<Map<_, _>>(),
        "denied": rule.denied.name(),
        "no_cookie": rule.no_cookie.name(),
        "once_by": rule.once_by.name(),
        "withhold_seconds": rule.withhold.as_secs(),
        "dry_run": rule.dry_run,
    })
}
