//! The hosts that take the answers to an edge's challenges, by their records. There is no clock, network or file here.
//!
//! A host whose session ended counts as it was last known: its pinned programs go on without its controller. Hosts need not be
//! members of the farm, so that nothing follows from a service without a known host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
};

use serde::{Deserialize, Serialize};

use super::guard_record::{GuardRecord, Guards, HandshakeOption};
use crate::model::{EdgeService, Prefix};

/// Who takes the answers to an edge's challenges for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// At least one host takes them; `None` where no host of the farm has such an address.
    pub taken: Option<bool>,
    /// The window scale for the edge to state: that of its rule, else that of all hosts, else its own.
    pub window_scale: u8,
    /// The hosts that take them.
    pub takes: BTreeSet<String>,
    /// The hosts that do not, and why.
    pub refuses: BTreeMap<String, Cause>,
}

/// Why a host takes no answers to an edge's challenges.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// It has no rule for the port, or makes its own secrets.
    NoRule,
    /// It has another secret than the edge.
    OtherSecret,
    /// It has switched off options that the edge states.
    Options(BTreeSet<HandshakeOption>),
    /// It advertises this window scale, not the one that the edge states.
    WindowScale(u8),
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NoRule => f.write_str("has no rule for the port with a shared secret"),
            Self::OtherSecret => f.write_str("has another secret"),
            Self::Options(options) => {
                let options: Vec<_> = options.iter().map(ToString::to_string).collect();
                write!(f, "has net.ipv4.{} off", options.join(", "))
            }
            Self::WindowScale(scale) => write!(f, "has window scale {scale}"),
        }
    }
}

impl Verdict {
    /// The hosts that do not take the answers, each with its cause.
    pub fn refusals(&self) -> String {
        let all = self.refuses.iter();
        let all: Vec<_> = all.map(|(host, cause)| format!("{host} {cause}")).collect();
        all.join("; ")
    }
}

/// The verdict for each service of the edge with this name.
pub fn judge(name: &str, edge: &GuardRecord, hosts: &Guards) -> BTreeMap<EdgeService, Verdict> {
    let others = || hosts.iter().filter(|(host, _)| *host != name);
    let of = |(service, stated): (&EdgeService, &Option<u8>)| {
        let behind = others().filter(|(_, host)| is_behind(edge, service, host));
        (*service, verdict(edge, *service, *stated, behind))
    };
    edge.edges.iter().map(of).collect()
}

/// The host has an address of the service, and does not challenge for it: another edge may be in the same network.
fn is_behind(edge: &GuardRecord, service: &EdgeService, host: &GuardRecord) -> bool {
    let overlap = |vip: Prefix, own: Prefix| vip.contains(own) || own.contains(vip);
    // The longest prefix decides.
    let longer = |own: Prefix| {
        let mut others = edge.edges.keys();
        others.any(|it| {
            it.port == service.port && it.vip.len > service.vip.len && it.vip.contains(own)
        })
    };
    let mut own = host.addresses.iter().copied();
    !host.edges.contains_key(service) && own.any(|own| overlap(service.vip, own) && !longer(own))
}

fn verdict<'a>(
    edge: &GuardRecord,
    service: EdgeService,
    stated: Option<u8>,
    hosts: impl Iterator<Item = (&'a String, &'a GuardRecord)>,
) -> Verdict {
    let mut verdict = Verdict::default();
    let mut scales = BTreeMap::new();
    for (name, host) in hosts {
        match refusal(edge, service.port, host) {
            Some(cause) => drop(verdict.refuses.insert(name.clone(), cause)),
            None => drop(scales.insert(name, host.window_scale)),
        }
    }
    let distinct: BTreeSet<_> = scales.values().copied().collect();
    let agreed = distinct.first().filter(|_| distinct.len() == 1).copied();
    verdict.window_scale = stated.or(agreed).unwrap_or(edge.window_scale);
    let states_scale = edge.options.contains(&HandshakeOption::WindowScaling);
    for (name, scale) in scales {
        if states_scale && scale != verdict.window_scale {
            let cause = Cause::WindowScale(scale);
            verdict.refuses.insert(name.clone(), cause);
        } else {
            verdict.takes.insert(name.clone());
        }
    }
    let known = !verdict.takes.is_empty() || !verdict.refuses.is_empty();
    verdict.taken = known.then_some(!verdict.takes.is_empty());
    verdict
}

/// Why the host takes no answers at the port, whatever window scale the edge states.
fn refusal(edge: &GuardRecord, port: u16, host: &GuardRecord) -> Option<Cause> {
    if !host.takes_at(port) {
        return Some(Cause::NoRule);
    }
    if host.secret != edge.secret {
        return Some(Cause::OtherSecret);
    }
    let off: BTreeSet<_> = edge.options.difference(&host.options).copied().collect();
    (!off.is_empty()).then_some(Cause::Options(off))
}

#[cfg(test)]
mod tests;
