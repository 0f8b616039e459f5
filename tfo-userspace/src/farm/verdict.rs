//! The hosts that take the answers to an edge's challenges, by their records. There is no clock, network or file here.
//!
//! A host whose session ended counts as it was last known: its pinned programs go on without its controller. Hosts need not be
//! members of the farm, so that nothing follows from a service without a known host.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use serde::{Deserialize, Serialize};
use tfo_common::guard::SLOT_SHIFT;

use super::guard_record::{GuardRecord, Guards, HandshakeOption};
use crate::model::{EdgeService, Prefix};

/// Who takes the answers to an edge's challenges for a service.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Verdict {
    /// At least one host takes them; `None` where no host of the farm has such an address.
    pub taken: Option<bool>,
    /// The window scale that the edge states; `None` where it states none.
    pub window_scale: Option<u8>,
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

impl Cause {
    /// The causes as metrics name them.
    pub const NAMES: [&str; 4] = ["no_rule", "other_secret", "options", "window_scale"];

    /// Its name among them.
    pub const fn name(&self) -> &'static str {
        Self::NAMES[match self {
            Self::NoRule => 0,
            Self::OtherSecret => 1,
            Self::Options(_) => 2,
            Self::WindowScale(_) => 3,
        }]
    }

    /// What has the host take the answers at `port`.
    fn remedy(&self, port: u16) -> String {
        match self {
            Self::NoRule | Self::OtherSecret => format!(
                "`tfo guard set off --port {port} --secret-file FILE` there has a host take them"
            ),
            Self::Options(_) => "switch those sysctls on there".to_owned(),
            Self::WindowScale(_) => {
                "give all hosts the same net.ipv4.tcp_rmem and net.core.rmem_max, and the edge their window scale"
                    .to_owned()
            }
        }
    }
}

/// A clock off by this from that of the farm's leader is off by more than half a time slot of challenges: this host takes no
/// answers, and none are taken to what it challenges.
pub(crate) fn clock_is_off(skew: f64) -> bool {
    const HALF_SLOT: Duration = Duration::from_nanos(1 << (SLOT_SHIFT - 1));
    skew.abs() > HALF_SLOT.as_secs_f64()
}

impl Verdict {
    /// The hosts that do not take the answers, each with its cause.
    pub fn refusals(&self) -> String {
        let all = self.refuses.iter();
        let all: Vec<_> = all.map(|(host, cause)| format!("{host} {cause}")).collect();
        all.join("; ")
    }

    /// What has them take the answers at `port`.
    pub fn remedy(&self, port: u16) -> String {
        let each: BTreeSet<_> = self.refuses.values().map(|it| it.remedy(port)).collect();
        each.into_iter().collect::<Vec<_>>().join("; ")
    }
}

/// The verdict for each service of the edge with this name, by what its challenges state.
pub fn judge(name: &str, edge: &GuardRecord, hosts: &Guards) -> BTreeMap<EdgeService, Verdict> {
    let states = edge.states().into_iter();
    let of = |(service, options)| (service, verdict(name, edge, (&service, &options), hosts));
    states.map(of).collect()
}

/// The hosts that have an address of the service, and do not challenge for it: another edge may be in the same network.
pub(super) fn behind<'a>(
    name: &'a str,
    edge: &'a GuardRecord,
    service: &'a EdgeService,
    hosts: &'a Guards,
) -> impl Iterator<Item = (&'a String, &'a GuardRecord)> {
    let overlap = |vip: Prefix, own: Prefix| vip.contains(own) || own.contains(vip);
    // The longest prefix decides.
    let longer = |own: Prefix| {
        let mut others = edge.edges.keys();
        others.any(|it| {
            it.port == service.port && it.vip.len > service.vip.len && it.vip.contains(own)
        })
    };
    hosts.iter().filter(move |(host, record)| {
        let mut own = record.addresses.iter().copied();
        let is_edge = record.edges.contains_key(service);
        *host != name && !is_edge && own.any(|own| overlap(service.vip, own) && !longer(own))
    })
}

/// Why the host takes no answers at the port, whatever the edge states.
pub(super) fn lacks(edge: &GuardRecord, port: u16, host: &GuardRecord) -> Option<Cause> {
    if !host.takes_at(port) {
        return Some(Cause::NoRule);
    }
    (host.secret != edge.secret).then_some(Cause::OtherSecret)
}

fn verdict(
    name: &str,
    edge: &GuardRecord,
    (service, options): (&EdgeService, &BTreeSet<HandshakeOption>),
    hosts: &Guards,
) -> Verdict {
    let of_rule = edge.edges.get(service).copied().flatten();
    let scales = options.contains(&HandshakeOption::WindowScaling);
    let mut verdict = Verdict {
        window_scale: scales.then_some(of_rule.unwrap_or(edge.window_scale)),
        ..Verdict::default()
    };
    let cannot_keep = |host: &GuardRecord| {
        let off: BTreeSet<_> = options - &host.options;
        if !off.is_empty() {
            return Some(Cause::Options(off));
        }
        let stated = verdict.window_scale?;
        (stated != host.window_scale).then_some(Cause::WindowScale(host.window_scale))
    };
    let (mut takes, mut refuses) = (BTreeSet::new(), BTreeMap::new());
    for (name, host) in behind(name, edge, service, hosts) {
        match lacks(edge, service.port, host).or_else(|| cannot_keep(host)) {
            Some(cause) => drop(refuses.insert(name.clone(), cause)),
            None => drop(takes.insert(name.clone())),
        }
    }
    let known = !takes.is_empty() || !refuses.is_empty();
    verdict.taken = known.then_some(!takes.is_empty());
    Verdict {
        takes,
        refuses,
        ..verdict
    }
}

#[cfg(test)]
mod tests;
