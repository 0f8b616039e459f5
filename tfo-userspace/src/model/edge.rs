//! Services behind this host, for which it challenges, and the secret that it shares with their hosts.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use tfo_common::{fastopen::Key, wire::options::negotiated::HostOptions};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{key_pair::Fingerprint, port_guard::PortGuard, prefix::Prefix};

/// A port of addresses behind this host. Sorts by address, then by port.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct EdgeService {
    /// The addresses.
    pub vip: Prefix,
    /// The port.
    pub port: u16,
}

/// `198.51.100.7:443`, `198.51.100.0/24:443`, `[2001:db8::/48]:443`.
impl fmt::Display for EdgeService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { vip, port } = self;
        let text = if vip.is_host() {
            vip.address.to_string()
        } else {
            vip.to_string()
        };
        match vip.address {
            IpAddr::V4(_) => write!(f, "{text}:{port}"),
            IpAddr::V6(_) => write!(f, "[{text}]:{port}"),
        }
    }
}

impl FromStr for EdgeService {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no service: write it as 198.51.100.7:443 or [2001:db8::/48]:443")
        };
        let (vip, port) = text.rsplit_once(':').ok_or_else(wrong)?;
        let bare = vip.strip_prefix('[').and_then(|vip| vip.strip_suffix(']'));
        Ok(Self {
            vip: bare.unwrap_or(vip).parse()?,
            port: port.parse().map_err(|_| wrong())?,
        })
    }
}

impl From<EdgeService> for String {
    fn from(service: EdgeService) -> Self {
        service.to_string()
    }
}

impl TryFrom<String> for EdgeService {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// The rule of such a service, and what its challenges state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EdgeGuard {
    /// The rule by which it is guarded.
    pub rule: PortGuard,
    /// The greatest MSS on the way to the hosts behind, in bytes; `None` for that of the route to the client.
    pub mss: Option<u16>,
    /// The window scale that the hosts behind advertise; `None` for this host's.
    pub window_scale: Option<u8>,
    /// The receive buffer of which the first window is, in bytes, where hosts behind have less than this host; `None` for this
    /// host's.
    pub receive_buffer: Option<u32>,
    /// The options that all hosts behind have: others are not stated.
    pub options: HostOptions,
}

impl Default for EdgeGuard {
    fn default() -> Self {
        Self {
            rule: PortGuard::default(),
            mss: None,
            window_scale: None,
            receive_buffer: None,
            options: Self::ALL_OPTIONS,
        }
    }
}

impl EdgeGuard {
    /// Least MSS that may be stated: the kernel's for either version.
    pub const MIN_MSS: u16 = 536;
    /// Greatest window scale: RFC 7323 section 2.3.
    pub const MAX_SCALE: u8 = 14;
    /// Hosts behind that have every option.
    pub const ALL_OPTIONS: HostOptions = HostOptions {
        window_scaling: true,
        sack: true,
        ecn: true,
        timestamps: true,
    };

    /// Refuses what no host can keep.
    ///
    /// # Errors
    ///
    /// The mistake and its remedy.
    pub fn check(&self, service: &EdgeService) -> Result<(), String> {
        if service.vip.address.is_unspecified() {
            return Err(format!(
                "{} is every address: name those of the service, as in 198.51.100.7 or 2001:db8:1::/64",
                service.vip
            ));
        }
        if let IpAddr::V6(address) = service.vip.address
            && address.to_ipv4_mapped().is_some()
        {
            return Err(format!("{}: write it as IPv4", service.vip));
        }
        if service.port == 0 {
            return Err("port 0 is none: give 1 to 65535".to_owned());
        }
        if let Some(mss) = self.mss.filter(|mss| *mss < Self::MIN_MSS) {
            return Err(format!(
                "an MSS of {mss}: no link takes less than {}: give the MTU towards the hosts behind less 40 (IPv6: 60)",
                Self::MIN_MSS
            ));
        }
        match self.window_scale {
            Some(scale) if scale > Self::MAX_SCALE => Err(format!(
                "a window scale of {scale}: it is 0 to {}: `ss -ti` on a host behind shows its own as the second number of wscale",
                Self::MAX_SCALE
            )),
            _ => Ok(()),
        }
    }
}

/// The secret of challenges that several hosts have. `Debug` shows its fingerprint.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct ChallengeSecret(Key);

impl ChallengeSecret {
    /// This key, as the map holds it.
    pub const fn new(key: Key) -> Self {
        Self(key)
    }

    /// The key.
    pub(crate) const fn key(&self) -> Key {
        self.0
    }

    /// Equal on every host for equal secrets.
    pub fn fingerprint(&self) -> Fingerprint {
        Fingerprint::of(&self.0)
    }
}

impl fmt::Debug for ChallengeSecret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", self.fingerprint())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_service_reads_as_people_write_it() {
        for (vip, text) in [
            ("198.51.100.7", "198.51.100.7:443"),
            ("198.51.100.0/24", "198.51.100.0/24:443"),
            ("2001:db8::1", "[2001:db8::1]:443"),
            ("2001:db8::/48", "[2001:db8::/48]:443"),
        ] {
            let service = EdgeService {
                vip: vip.parse().unwrap(),
                port: 443,
            };
            assert_eq!(service.to_string(), text);
            assert_eq!(text.parse(), Ok(service));
        }
        for wrong in [
            "",
            "198.51.100.7",
            "198.51.100.7:x",
            "[2001:db8::1]",
            "2001:db8:443",
        ] {
            assert!(wrong.parse::<EdgeService>().is_err(), "{wrong}");
        }
    }
}
