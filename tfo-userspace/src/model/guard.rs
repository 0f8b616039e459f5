//! The guard: which ports are guarded, when, and the rates that one source gets; whom this host guards behind it.

use std::{collections::BTreeMap, time::Duration};

use tfo_common::{
    abi::DEFAULT_PORT,
    guard::{GuardMode, GuardPort},
    rate::Rate,
};

use super::{
    edge::{ChallengeSecret, EdgeGuard, EdgeService},
    port_guard::PortGuard,
    prefix::Prefix,
};

/// A guard. The default guards no port.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// Limit of challenges to one source: an IPv4 address or an IPv6 /64. SYNs over it go on to the kernel.
    pub replies: Rate,
    /// Limit of SYNs with a valid cookie from one source; SYNs over it are challenged.
    pub proven: Rate,
    /// The rule of ports without one of their own; `None` where those are not guarded.
    pub default: Option<PortGuard>,
    /// Rules by port.
    pub ports: BTreeMap<u16, PortGuard>,
    /// Rules of services behind this host.
    pub edges: BTreeMap<EdgeService, EdgeGuard>,
    /// The secret that other hosts have, too; `None` where this host makes its own. Edges have one.
    pub secret: Option<ChallengeSecret>,
}

impl Default for Guard {
    fn default() -> Self {
        Self {
            // An answer is no longer than its SYN, and the kernel would send several.
            replies: Rate::UNLIMITED,
            // More than a carrier's NAT or a busy proxy sends.
            proven: Rate {
                per_second: 10_000,
                burst: 10_000,
            },
            default: None,
            ports: BTreeMap::new(),
            edges: BTreeMap::new(),
            secret: None,
        }
    }
}

impl Guard {
    /// The rules by key of `GUARD_PORTS`, the default's among them.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (u32, PortGuard)> {
        let default = self.default.iter().map(|rule| (DEFAULT_PORT, *rule));
        let ports = self
            .ports
            .iter()
            .map(|(port, rule)| ((*port).into(), *rule));
        default.chain(ports)
    }

    /// Inserts the rule of a key of `GUARD_PORTS`.
    pub(crate) fn insert(&mut self, port: u32, rule: PortGuard) {
        match port {
            DEFAULT_PORT => self.default = Some(rule),
            port => drop(self.ports.insert(port as u16, rule)),
        }
    }

    /// A port of this host has a rule.
    pub(crate) fn is_for_host(&self) -> bool {
        self.default.is_some() || !self.ports.is_empty()
    }

    /// No port has a rule, of this host or behind it.
    pub fn is_empty(&self) -> bool {
        !self.is_for_host() && self.edges.is_empty()
    }

    /// Some rule has SYNs answered.
    pub(crate) fn answers(&self) -> bool {
        let edges = self.edges.values().map(|edge| &edge.rule);
        let mut rules = self.ports.values().chain(&self.default).chain(edges);
        rules.any(|rule| rule.mode != GuardMode::Off)
    }
}

/// The guard's state at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortState {
    /// The addresses behind this host whose port it is; `None` for a port of this host.
    pub vip: Option<Prefix>,
    /// 0 for all ports without a rule of their own.
    pub port: u16,
    /// The rule in force.
    pub rule: PortGuard,
    /// SYNs are challenged now.
    pub on: bool,
    /// Time since the port last came to be guarded; `None` where it never was.
    pub since: Option<Duration>,
    /// Number of times that the port came to be guarded.
    pub switches: u64,
}

impl PortState {
    /// The state of a port of this host.
    pub(crate) fn of(port: u32, state: &GuardPort, now: u64) -> Self {
        let since = (state.since != 0).then(|| now.saturating_sub(state.since));
        Self {
            vip: None,
            port: port as u16,
            rule: PortGuard::of_rule(&state.rule),
            on: state.is_on(now),
            since: since.map(Duration::from_nanos),
            switches: state.switches,
        }
    }

    /// Returns the key that distinguishes it from the others.
    pub const fn key(&self) -> (Option<Prefix>, u16) {
        (self.vip, self.port)
    }

    /// `default`, the port's number, or a service behind this host.
    pub fn name(&self) -> String {
        match (self.vip, self.port) {
            (Some(vip), port) => EdgeService { vip, port }.to_string(),
            (None, 0) => "default".to_owned(),
            (None, port) => port.to_string(),
        }
    }
}
