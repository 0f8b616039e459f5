//! The guard: which ports are guarded, when, and the rates that one source gets.

use std::{collections::BTreeMap, time::Duration};

use tfo_common::{
    guard::{GuardPort, GuardRule, Mode},
    maps::DEFAULT_PORT,
    policy::Rate,
};

/// Which ports are guarded. The default guards none.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// SYN-ACKs that one source gets: an IPv4 address, or an IPv6 network of 64 bits.
    pub replies: Rate,
    /// SYNs with a valid cookie that one source may send; those beyond are challenged.
    pub proven: Rate,
    /// Ports without a rule of their own; `None` for no guard there.
    pub default: Option<PortGuard>,
    /// Ports by number.
    pub ports: BTreeMap<u16, PortGuard>,
}

/// When a port is guarded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortGuard {
    /// Always, never, or while it is flooded.
    pub mode: Mode,
    /// It is flooded where SYNs without proof come faster.
    pub above: Rate,
    /// How long it stays guarded after that.
    pub quiet: Duration,
}

impl Default for Guard {
    fn default() -> Self {
        let rate = Rate {
            per_second: 100,
            burst: 200,
        };
        Self {
            replies: rate,
            proven: rate,
            default: None,
            ports: BTreeMap::new(),
        }
    }
}

impl Default for PortGuard {
    fn default() -> Self {
        Self {
            mode: Mode::Off,
            above: Rate {
                per_second: 1000,
                burst: 1000,
            },
            quiet: Duration::from_secs(30),
        }
    }
}

impl PortGuard {
    /// As the program reads it.
    pub(crate) fn rule(&self) -> GuardRule {
        GuardRule {
            mode: self.mode as u32,
            reserved: 0,
            above: self.above,
            quiet: u64::try_from(self.quiet.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Of what the program reads.
    pub(crate) fn of_rule(rule: &GuardRule) -> Self {
        Self {
            mode: Mode::from_number(rule.mode),
            above: rule.above,
            quiet: Duration::from_nanos(rule.quiet),
        }
    }
}

impl Guard {
    /// Every port's rule, with the port as the program's map has it.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (u32, PortGuard)> {
        let default = self.default.iter().map(|rule| (DEFAULT_PORT, *rule));
        let ports = self
            .ports
            .iter()
            .map(|(port, rule)| ((*port).into(), *rule));
        default.chain(ports)
    }

    /// Puts a rule where the program's map has it.
    pub(crate) fn insert(&mut self, port: u32, rule: PortGuard) {
        match port {
            DEFAULT_PORT => self.default = Some(rule),
            port => drop(self.ports.insert(port as u16, rule)),
        }
    }

    /// No port has a rule.
    pub fn is_empty(&self) -> bool {
        self.default.is_none() && self.ports.is_empty()
    }
}

/// What the guard does at a port.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortState {
    /// The port, or 0 for all that have no rule.
    pub port: u16,
    /// What it goes by.
    pub rule: PortGuard,
    /// Whether the port is guarded.
    pub on: bool,
    /// How long it has been so, or how long ago it last came to be; `None` where it never was.
    pub since: Option<Duration>,
    /// How often it came to be guarded.
    pub switches: u64,
}

impl PortState {
    pub(crate) fn of(port: u32, state: &GuardPort, now: u64) -> Self {
        let since = (state.since != 0).then(|| now.saturating_sub(state.since));
        Self {
            port: port as u16,
            rule: PortGuard::of_rule(&state.rule),
            on: state.is_on(now),
            since: since.map(Duration::from_nanos),
            switches: state.switches,
        }
    }
}
