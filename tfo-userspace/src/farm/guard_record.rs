//! The guard in a host's record: the answers to challenges that the host takes, and the services that it challenges for.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt, io, iter,
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

/// Bytes of the shortest IPv4 and TCP headers.
const HEADERS: u32 = 40;

/// Stands for all ports without a rule of their own.
pub(super) const DEFAULT: u16 = 0;

/// The options that challenges for services state.
pub(crate) type StatedOptions = BTreeMap<EdgeService, BTreeSet<HandshakeOption>>;

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
    /// The options that it states for each of them, in their order, as bits of [`HandshakeOption::ALL`]; empty where these are
    /// all of its own.
    pub states: Vec<u8>,
    /// The fingerprint of the shared secret.
    pub secret: Option<String>,
    /// The window scale that it advertises.
    pub window_scale: u8,
    /// The receive buffer of its listeners, in bytes; 0 of a version that does not tell.
    pub receive_buffer: u32,
    /// The longest packet that it takes by every interface at which answers arrive, in bytes, as its routes have it, too; 0
    /// where it takes none.
    pub mtu: u32,
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

impl HandshakeOption {
    /// All, the lowest bit first.
    pub const ALL: [Self; 4] = [Self::WindowScaling, Self::Timestamps, Self::Sack, Self::Ecn];
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
    /// addresses and sysctls. `mtu` gives the least of the interfaces at which answers arrive, or 0.
    ///
    /// # Errors
    ///
    /// The error of rtnetlink.
    pub(crate) fn read(
        state: Option<&GuardState>,
        mtu: impl FnOnce() -> io::Result<u32>,
    ) -> io::Result<Self> {
        let addresses = routes::local()?.into_iter();
        let addresses = addresses.filter(|(prefix, is_local)| *is_local && is_global(*prefix));
        let addresses = addresses.map(|(prefix, _)| prefix).take(MAX_ADDRESSES);
        let mut record = Self {
            window_scale: window::scale(),
            receive_buffer: window::receive_buffer(),
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
        let of_routes = (state.mss > 0).then_some(state.mss + HEADERS);
        let of_interfaces = Some(mtu()?).filter(|mtu| *mtu > 0);
        record.mtu = of_routes
            .into_iter()
            .chain(of_interfaces)
            .min()
            .unwrap_or(0);
        let default = guard.default.is_some() || guard.ports.len() > MAX_PORTS;
        let ports = guard.ports.keys().copied().take(MAX_PORTS);
        record.takes = default
            .then_some(DEFAULT)
            .into_iter()
            .chain(ports)
            .collect();
        let mut states = StatedOptions::new();
        for (service, edge) in guard.edges.iter().take(MAX_EDGES) {
            record.edges.insert(*service, edge.window_scale);
            states.insert(*service, &record.options & &options(edge.options));
        }
        record.set_states(&states);
        Ok(record)
    }

    /// The options that it states for each service.
    pub(crate) fn states(&self) -> StatedOptions {
        let bits = self
            .states
            .iter()
            .copied()
            .map(Some)
            .chain(iter::repeat(None));
        let services = self.edges.keys().zip(bits);
        services
            .map(|(service, bits)| {
                let stated = |(at, _): &(usize, HandshakeOption)| {
                    bits.is_some_and(|bits| bits & 1 << at != 0)
                };
                let all = HandshakeOption::ALL.into_iter().enumerate();
                let all = all.filter(stated).map(|(_, option)| option).collect();
                let own = || self.options.clone();
                (*service, bits.map_or_else(own, |_| all))
            })
            .collect()
    }

    /// Sets the options that it states for its services; all of its own for others.
    pub(crate) fn set_states(&mut self, states: &StatedOptions) {
        let own = &self.options;
        let of = |service| states.get(service).unwrap_or(own);
        self.states = if self.edges.keys().all(|service| of(service) == own) {
            Vec::new()
        } else {
            self.edges.keys().map(|service| bits(of(service))).collect()
        };
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

fn bits(options: &BTreeSet<HandshakeOption>) -> u8 {
    let all = HandshakeOption::ALL.iter().enumerate();
    let set = all.filter(|(_, option)| options.contains(option));
    set.map(|(at, _)| 1 << at).sum()
}

/// The options of this set, for a rule.
pub(crate) fn host_options(options: &BTreeSet<HandshakeOption>) -> HostOptions {
    let has = |option| options.contains(&option);
    HostOptions {
        window_scaling: has(HandshakeOption::WindowScaling),
        sack: has(HandshakeOption::Sack),
        ecn: has(HandshakeOption::Ecn),
        timestamps: has(HandshakeOption::Timestamps),
    }
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
        let service = |it| {
            let text = format!("[{}]:{}", address(it + 0x8000), number(it));
            text.parse::<EdgeService>().unwrap()
        };
        let services = || (0..MAX_EDGES).map(service);
        let record = GuardRecord {
            takes: (0..=MAX_PORTS).map(number).collect(),
            edges: services().map(|it| (it, Some(14))).collect(),
            states: vec![15; MAX_EDGES],
            secret: Some("5a5a5a5a".to_owned()),
            window_scale: 14,
            receive_buffer: u32::MAX,
            mtu: u32::MAX,
            options: HandshakeOption::ALL.into(),
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
    fn options_that_are_stated_are_told() {
        let [first, second] = ["198.51.100.7:443", "198.51.100.8:443"];
        let [first, second] = [first, second].map(|it| it.parse::<EdgeService>().unwrap());
        let own: BTreeSet<_> = HandshakeOption::ALL.into();
        let mut record = GuardRecord {
            edges: [(first, None), (second, Some(7))].into(),
            options: own.clone(),
            ..GuardRecord::default()
        };
        let all = [(first, own.clone()), (second, own.clone())].into();
        assert_eq!(record.states(), all);
        record.set_states(&all);
        assert_eq!(record.states, Vec::<u8>::new());
        let some: BTreeSet<_> = [HandshakeOption::Timestamps, HandshakeOption::Ecn].into();
        record.set_states(&[(second, some.clone())].into());
        assert_eq!(record.states, [15, 10]);
        assert_eq!(record.states(), [(first, own), (second, some)].into());
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
