//! The guard in a host's record: the answers to challenges that the host takes, and the services that it challenges for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io,
};

use serde::{Deserialize, Serialize};
use tfo_common::wire::options::negotiated::HostOptions;

use crate::{
    datapath::GuardState,
    kernel::{routes, sysctl, window},
    model::{EdgeService, Prefix},
};

/// A record is bounded. A host with rules for more ports is said to take answers at every port; of addresses and services the
/// first are told.
const MAX_PORTS: usize = 64;
const MAX_ADDRESSES: usize = 64;
const MAX_EDGES: usize = 32;

/// Stands for all ports without a rule of their own.
pub(super) const DEFAULT: u16 = 0;

/// The guards of hosts, by name.
pub type Guards = BTreeMap<String, GuardRecord>;

/// The guard that a host has in force.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct GuardRecord {
    /// The ports at which it takes answers to challenges of other hosts: those with a rule, under a shared secret. 0 is the
    /// default rule.
    pub takes: BTreeSet<u16>,
    /// The services that it challenges for, with the window scale that their rule states, where that is not the host's.
    pub edges: BTreeMap<EdgeService, Option<u8>>,
    /// The fingerprint of the shared secret.
    pub secret: Option<String>,
    /// The window scale that it advertises.
    pub window_scale: u8,
    /// The options that its sysctls switch on.
    pub options: BTreeSet<HandshakeOption>,
    /// Its addresses, but those of the link or the host alone.
    pub addresses: BTreeSet<Prefix>,
}

/// An option of a handshake that a sysctl switches on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum HandshakeOption {
    /// `net.ipv4.tcp_window_scaling`.
    WindowScaling,
    /// `net.ipv4.tcp_timestamps`.
    Timestamps,
    /// `net.ipv4.tcp_sack`.
    Sack,
    /// `net.ipv4.tcp_ecn`.
    Ecn,
}

impl fmt::Display for HandshakeOption {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::WindowScaling => "tcp_window_scaling",
            Self::Timestamps => "tcp_timestamps",
            Self::Sack => "tcp_sack",
            Self::Ecn => "tcp_ecn",
        })
    }
}

impl GuardRecord {
    /// Reads the record of the calling thread's namespace, which has this guard in force, with its
    /// addresses and sysctls.
    ///
    /// # Errors
    ///
    /// The error of rtnetlink.
    pub(crate) fn read(state: Option<&GuardState>) -> io::Result<Self> {
        let addresses = routes::local()?.into_iter();
        let addresses = addresses.filter(|(prefix, is_local)| *is_local && is_global(*prefix));
        let addresses = addresses.map(|(prefix, _)| prefix).take(MAX_ADDRESSES);
        let mut record = Self {
            window_scale: window::scale(),
            options: options(sysctl::handshake_options()),
            addresses: addresses.collect(),
            ..Self::default()
        };
        let Some((state, secret)) = state.and_then(|it| Some((it, it.guard.secret.as_ref()?)))
        else {
            return Ok(record);
        };
        let guard = &state.guard;
        record.secret = Some(secret.fingerprint().to_string());
        record.window_scale = state.window_scale;
        let default = guard.default.is_some() || guard.ports.len() > MAX_PORTS;
        let ports = guard.ports.keys().copied().take(MAX_PORTS);
        record.takes = default
            .then_some(DEFAULT)
            .into_iter()
            .chain(ports)
            .collect();
        let edges = guard.edges.iter().take(MAX_EDGES);
        record.edges = edges
            .map(|(service, edge)| (*service, edge.window_scale))
            .collect();
        Ok(record)
    }

    /// It takes answers at this port, under whatever secret.
    pub(super) fn takes_at(&self, port: u16) -> bool {
        self.takes.contains(&port) || self.takes.contains(&DEFAULT)
    }

    /// The same host, which takes no answers at these ports.
    pub(crate) fn remove(&mut self, ports: &BTreeSet<u16>) {
        let before = self.takes.len();
        self.takes.retain(|port| !ports.contains(port));
        // Else the default rule would seem to take them.
        if self.takes.len() < before {
            self.takes.remove(&DEFAULT);
        }
    }

    /// The same host once it takes no answers.
    #[must_use]
    pub(crate) fn without_answers(&self) -> Self {
        Self {
            takes: BTreeSet::new(),
            ..self.clone()
        }
    }
}

/// Reads a guard, or none where it is not as this version writes it: it must not cost the host its record.
pub(super) fn readable<'de, D: serde::Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<GuardRecord>, D::Error> {
    let value = serde_json::Value::deserialize(deserializer)?;
    Ok(serde_json::from_value(value).ok())
}

fn is_global(prefix: Prefix) -> bool {
    let of_link = match prefix.address {
        std::net::IpAddr::V4(address) => address.is_link_local(),
        std::net::IpAddr::V6(address) => address.is_unicast_link_local(),
    };
    !of_link && !prefix.address.is_loopback()
}

fn options(of_host: HostOptions) -> BTreeSet<HandshakeOption> {
    let all = [
        (of_host.window_scaling, HandshakeOption::WindowScaling),
        (of_host.timestamps, HandshakeOption::Timestamps),
        (of_host.sack, HandshakeOption::Sack),
        (of_host.ecn, HandshakeOption::Ecn),
    ];
    all.into_iter()
        .filter_map(|(on, option)| on.then_some(option))
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        farm::seal::{Codec, MAX_VALUE},
        keys::Secret,
    };

    #[test]
    fn the_longest_record_fits() {
        let address = |number: usize| format!("2001:db8:1111:2222:3333:4444:5555:{number:x}");
        let number = |it: usize| 40_000 + it as u16;
        let record = GuardRecord {
            takes: (0..=MAX_PORTS).map(number).collect(),
            edges: (0..MAX_EDGES)
                .map(|it| {
                    (
                        format!("[{}]:{}", address(it + 0x8000), number(it))
                            .parse()
                            .unwrap(),
                        Some(14),
                    )
                })
                .collect(),
            secret: Some("5a5a5a5a".to_owned()),
            window_scale: 14,
            options: [
                HandshakeOption::WindowScaling,
                HandshakeOption::Timestamps,
                HandshakeOption::Sack,
                HandshakeOption::Ecn,
            ]
            .into(),
            addresses: (0..MAX_ADDRESSES)
                .map(|it| address(it + 0x8000).parse().unwrap())
                .collect(),
        };
        let seal = Secret::parse(&[1; 32]).unwrap();
        let codec = Codec::new("/tfo/", Some(seal));
        // What else is in a host's record, an error of some length included.
        let rest = "x".repeat(600);
        let text = codec.write("hosts/a", &(&record, rest)).unwrap();
        assert!(text.len() <= MAX_VALUE, "{}", text.len());
        let (read, _) = codec
            .read::<(GuardRecord, String)>("hosts/a", &text)
            .unwrap();
        assert_eq!(read, record);
    }

    #[test]
    fn addresses_of_the_link_or_the_host_alone_are_not_told() {
        for (prefix, global) in [
            ("127.0.0.0/8", false),
            ("127.0.0.1", false),
            ("169.254.3.4", false),
            ("::1", false),
            ("fe80::1", false),
            ("198.51.100.7", true),
            ("198.51.100.0/24", true),
            ("10.0.0.1", true),
            ("fd00::1", true),
        ] {
            assert_eq!(is_global(prefix.parse().unwrap()), global, "{prefix}");
        }
    }
}
