//! Tunnels that an interface reads through: `ipip`, `gre`, `fou:5555`, `gue:6080`.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use tfo_common::wire::{
    addresses::Address,
    tunnel::{self, MAX_PORTS, MAX_SOURCES, OuterSource},
};

use super::prefix::Prefix;

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum Tunnel {
    /// IP in IP, of either version in either.
    Ipip,
    /// GRE.
    Gre,
    /// IP in UDP datagrams to this port, as Linux' FOU has it.
    Fou(u16),
    /// GUE to this UDP port.
    Gue(u16),
}

impl Tunnel {
    const fn port(self) -> Option<u16> {
        match self {
            Self::Ipip | Self::Gre => None,
            Self::Fou(port) | Self::Gue(port) => Some(port),
        }
    }

    /// Packets of it may reach this host by a device for IP in IP.
    const fn ends_at_ip_device(self) -> bool {
        !matches!(self, Self::Gre)
    }
}

impl fmt::Display for Tunnel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ipip => f.write_str("ipip"),
            Self::Gre => f.write_str("gre"),
            Self::Fou(port) => write!(f, "fou:{port}"),
            Self::Gue(port) => write!(f, "gue:{port}"),
        }
    }
}

impl From<Tunnel> for String {
    fn from(tunnel: Tunnel) -> Self {
        tunnel.to_string()
    }
}

impl TryFrom<String> for Tunnel {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Reads `ipip`, `gre`, `fou:PORT` or `gue:PORT`. The error names the text and the remedy.
impl FromStr for Tunnel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let (kind, port) = match text.split_once(':') {
            Some((kind, port)) => (kind, Some(port)),
            None => (text, None),
        };
        let of_port = |made: fn(u16) -> Self| {
            let Some(port) = port else {
                return Err(format!(
                    "{kind} comes to a UDP port: write it as {kind}:6080"
                ));
            };
            let number = port.parse().ok().filter(|port| *port != 0);
            number.map(made).ok_or_else(|| {
                format!(
                    "{text:?}: {port:?} is no port: write one from 1 to 65535, as in {kind}:6080"
                )
            })
        };
        match (kind, port) {
            ("ipip", None) => Ok(Self::Ipip),
            ("gre", None) => Ok(Self::Gre),
            ("ipip" | "gre", Some(_)) => Err(format!("{kind} has no port: write {kind} alone")),
            ("fou", _) => of_port(Self::Fou),
            ("gue", _) => of_port(Self::Gue),
            _ => Err(format!(
                "{text:?} is no tunnel that tfo reads through: write ipip, gre, fou:PORT or gue:PORT"
            )),
        }
    }
}

/// The tunnels that an interface reads through, and the sources whose outer packets it takes. By default none.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decap {
    tunnels: [Option<Tunnel>; Self::MAX_TUNNELS],
    sources: [Option<Prefix>; MAX_SOURCES],
}

impl Decap {
    /// `ipip`, `gre` and one of each port.
    const MAX_TUNNELS: usize = 2 + MAX_PORTS;

    /// Reads through `tunnels` whose outer packets are from `sources`.
    ///
    /// # Errors
    ///
    /// A message with the remedy, where they do not go together.
    pub fn new(tunnels: &[Tunnel], sources: &[Prefix]) -> Result<Self, String> {
        let mut decap = Self::default();
        if tunnels.is_empty() && sources.is_empty() {
            return Ok(decap);
        }
        if tunnels.is_empty() {
            return Err(format!(
                "nothing is read through: name the tunnels whose outer packets are from {}, such as ipip",
                list(sources)
            ));
        }
        check_tunnels(tunnels)?;
        check_sources(tunnels, sources)?;
        for (place, tunnel) in decap.tunnels.iter_mut().zip(tunnels) {
            *place = Some(*tunnel);
        }
        for (place, source) in decap.sources.iter_mut().zip(sources) {
            *place = Some(*source);
        }
        Ok(decap)
    }

    /// Something is read through.
    pub fn is_on(&self) -> bool {
        self.tunnels().next().is_some()
    }

    /// What is read through.
    pub fn tunnels(&self) -> impl Iterator<Item = Tunnel> {
        self.tunnels.into_iter().flatten()
    }

    /// The prefixes of outer sources.
    pub fn sources(&self) -> impl Iterator<Item = Prefix> {
        self.sources.into_iter().flatten()
    }

    /// A SYN may be met both here and at a device for IP in IP.
    pub(crate) fn meets_ip_devices(&self) -> bool {
        self.tunnels().any(Tunnel::ends_at_ip_device)
    }

    /// The constant `DECAP` of the programs.
    pub(crate) fn constant(&self) -> tunnel::Decap {
        let mut constant = tunnel::Decap::OFF;
        let mut ports = constant.ports.iter_mut();
        for tunnel in self.tunnels() {
            constant.protocols |= match tunnel {
                Tunnel::Ipip => tunnel::Decap::IPIP,
                Tunnel::Gre => tunnel::Decap::GRE,
                Tunnel::Fou(_) | Tunnel::Gue(_) => tunnel::Decap::UDP,
            };
            let gue = match tunnel {
                Tunnel::Gue(_) => tunnel::Decap::GUE,
                _ => 0,
            };
            if let Some((place, port)) = tunnel.port().and_then(|port| Some((ports.next()?, port)))
            {
                *place = u32::from(port) | gue;
            }
        }
        for (place, source) in constant.sources.iter_mut().zip(self.sources()) {
            let bits = match source.address {
                IpAddr::V4(_) => 96 + source.len,
                IpAddr::V6(_) => source.len,
            };
            *place = OuterSource::new(Address::of_ip(source.address), bits);
        }
        constant
    }

    /// The values as words of a map: tunnels, then sources.
    pub(crate) fn words(&self) -> DecapWords {
        let mut words = DecapWords::default();
        for (word, tunnel) in words.tunnels.iter_mut().zip(self.tunnels()) {
            *word = match tunnel {
                Tunnel::Ipip => 1,
                Tunnel::Gre => 2,
                Tunnel::Fou(port) => 3 | u64::from(port) << 16,
                Tunnel::Gue(port) => 4 | u64::from(port) << 16,
            };
        }
        for (source, prefix) in words.sources.iter_mut().zip(self.sources()) {
            let Address([a, b]) = Address::of_ip(prefix.address);
            *source = [a, b, u64::from(prefix.len) + 1];
        }
        words
    }

    /// From [`Self::words`].
    pub(crate) fn of_words(words: &DecapWords) -> Self {
        let mut decap = Self::default();
        for (place, word) in decap.tunnels.iter_mut().zip(words.tunnels) {
            let port = (word >> 16) as u16;
            *place = match word as u16 {
                1 => Some(Tunnel::Ipip),
                2 => Some(Tunnel::Gre),
                3 => Some(Tunnel::Fou(port)),
                4 => Some(Tunnel::Gue(port)),
                _ => None,
            };
        }
        for (place, [a, b, len]) in decap.sources.iter_mut().zip(words.sources) {
            *place = len.checked_sub(1).map(|len| Prefix {
                address: Address([a, b]).ip(),
                len: len as u8,
            });
        }
        decap
    }
}

/// A [`Decap`] as words.
#[derive(Clone, Copy, Default)]
#[repr(C)]
pub(crate) struct DecapWords {
    tunnels: [u64; Decap::MAX_TUNNELS],
    sources: [[u64; 3]; MAX_SOURCES],
}

impl fmt::Display for Decap {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [tunnels, sources] = [
            list(&self.tunnels().collect::<Vec<_>>()),
            list(&self.sources().collect::<Vec<_>>()),
        ];
        write!(f, "{tunnels} from {sources}")
    }
}

fn check_tunnels(tunnels: &[Tunnel]) -> Result<(), String> {
    for (index, tunnel) in tunnels.iter().enumerate() {
        let before = &tunnels[..index];
        if before.contains(tunnel) {
            return Err(format!("{tunnel} is named twice: name it once"));
        }
        let same = |other: &&Tunnel| tunnel.port().is_some() && other.port() == tunnel.port();
        if let Some(other) = before.iter().find(same) {
            return Err(format!(
                "{other} and {tunnel} have one port, to which one of them comes: remove the other"
            ));
        }
    }
    let ports = tunnels.iter().filter(|it| it.port().is_some()).count();
    if ports > MAX_PORTS {
        return Err(format!(
            "{ports} UDP ports: an interface reads at most {MAX_PORTS}: remove some"
        ));
    }
    Ok(())
}

fn check_sources(tunnels: &[Tunnel], sources: &[Prefix]) -> Result<(), String> {
    if sources.is_empty() {
        return Err(format!(
            "{} without sources: anyone can forge an outer header, so name the prefixes from which the load balancers send \
             (0.0.0.0/0 and ::/0 take all)",
            list(tunnels)
        ));
    }
    if sources.len() > MAX_SOURCES {
        return Err(format!(
            "{} prefixes of sources: an interface takes at most {MAX_SOURCES}: merge some",
            sources.len()
        ));
    }
    for (index, source) in sources.iter().enumerate() {
        if let IpAddr::V6(address) = source.address
            && address.to_ipv4_mapped().is_some()
        {
            return Err(format!(
                "{source} is an IPv4 address in the form of IPv6, from which no packet comes: write it as IPv4"
            ));
        }
        for other in &sources[..index] {
            let (outer, inner) = if other.contains(*source) {
                (other, source)
            } else {
                (source, other)
            };
            if outer.contains(*inner) {
                return Err(format!("{inner} is within {outer}: remove one of them"));
            }
        }
    }
    Ok(())
}

fn list<T: fmt::Display>(all: &[T]) -> String {
    let all: Vec<_> = all.iter().map(ToString::to_string).collect();
    all.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse<T: FromStr<Err = String>>(text: &str) -> Vec<T> {
        let words = text.split_whitespace();
        words.map(|word| word.parse().unwrap()).collect()
    }

    fn decap(tunnels: &str, sources: &str) -> Result<Decap, String> {
        Decap::new(&parse(tunnels), &parse(sources))
    }

    #[test]
    fn what_goes_together_is_kept() {
        let tunnels = "ipip gre fou:1 gue:65535 gue:2 fou:3";
        let sources = "192.0.2.0/24 198.51.100.7 2001:db8::/32 ::1";
        let read = decap(tunnels, sources).unwrap();
        assert_eq!(
            read.to_string(),
            "ipip, gre, fou:1, gue:65535, gue:2, fou:3 from 192.0.2.0/24, 198.51.100.7/32, 2001:db8::/32, ::1/128"
        );
        assert_eq!(Decap::of_words(&read.words()), read);
        let off = decap("", "").unwrap();
        assert!(read.is_on() && !off.is_on());
        assert_eq!(off, Decap::of_words(&off.words()));
        let all = decap("ipip", "0.0.0.0/0 ::/0").unwrap();
        assert_eq!(Decap::of_words(&all.words()), all);
    }

    #[test]
    fn the_constant_is_what_was_written() {
        let constant = decap("gue:6080 ipip fou:5555", "192.0.2.0/24 ::/0")
            .unwrap()
            .constant();
        assert_eq!(constant.protocols, tunnel::Decap::IPIP | tunnel::Decap::UDP);
        assert_eq!(constant.ports, [0x17c0 | tunnel::Decap::GUE, 5555, 0, 0]);
        let address = |text: &str| Address::of_ip(text.parse().unwrap());
        let [v4, v6, rest @ ..] = constant.sources;
        assert!(v4.holds(&address("192.0.2.9")) && !v4.holds(&address("192.0.3.9")));
        assert!(v6.holds(&address("2001:db8::1")));
        assert!(rest.iter().all(|it| *it == OuterSource::NONE));
        assert_eq!(Decap::default().constant(), tunnel::Decap::OFF);
    }

    #[test]
    fn mistakes_are_named_with_their_remedy() {
        for (text, parts) in [
            (
                "vxlan",
                &["\"vxlan\"", "write ipip, gre, fou:PORT or gue:PORT"][..],
            ),
            ("IPIP", &["\"IPIP\"", "write ipip"]),
            ("", &["\"\"", "write ipip"]),
            ("gue", &["gue comes to a UDP port", "gue:6080"]),
            ("fou:", &["\"\" is no port", "from 1 to 65535"]),
            ("fou:0", &["\"0\" is no port"]),
            ("gue:65536", &["\"65536\" is no port"]),
            ("ipip:4", &["ipip has no port", "write ipip alone"]),
        ] {
            let error = text.parse::<Tunnel>().unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{text}: {error}");
            }
        }
        for (tunnels, sources, parts) in [
            ("ipip", "", &["ipip without sources", "0.0.0.0/0"][..]),
            ("", "192.0.2.0/24", &["nothing is read", "192.0.2.0/24"]),
            ("gre gre", "::/0", &["gre is named twice"]),
            ("fou:7 gue:7", "::/0", &["fou:7 and gue:7 have one port"]),
            (
                "fou:1 fou:2 fou:3 gue:4 gue:5",
                "::/0",
                &["5 UDP ports", "at most 4"],
            ),
            (
                "gre",
                "10.0.0.0/8 10.1.0.0/16",
                &["10.1.0.0/16 is within 10.0.0.0/8"],
            ),
            (
                "gre",
                "10.1.0.0/16 10.0.0.0/8",
                &["10.1.0.0/16 is within 10.0.0.0/8"],
            ),
            ("gre", "::1 ::1", &["::1/128 is within ::1/128"]),
            (
                "gre",
                "::ffff:192.0.2.1",
                &["in the form of IPv6", "write it as IPv4"],
            ),
        ] {
            let error = decap(tunnels, sources).unwrap_err();
            for part in parts {
                assert!(error.contains(part), "{tunnels}, {sources}: {error}");
            }
        }
        let many: Vec<_> = (0..=MAX_SOURCES)
            .map(|n| format!("10.0.{n}.0/24"))
            .collect();
        let error = decap("ipip", &many.join(" ")).unwrap_err();
        assert!(
            error.contains("9 prefixes") && error.contains("at most 8"),
            "{error}"
        );
    }
}
