//! Address prefixes: `192.0.2.0/24`, `2001:db8::/32`.

use std::{fmt, net::IpAddr, str::FromStr};

use serde::{Deserialize, Serialize};
use tfo_common::wire::addresses::Address;

/// An address prefix. Sorts by address, then by length; IPv4 first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct Prefix {
    /// The first address.
    pub address: IpAddr,
    /// Bits: at most 32 for IPv4, 128 for IPv6.
    pub len: u8,
}

/// The address's bits, the first one highest.
fn left_aligned(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(address) => u128::from(address.to_bits()) << 96,
        IpAddr::V6(address) => address.to_bits(),
    }
}

impl Prefix {
    /// A prefix as maps hold it: its first address, with the length for its family.
    pub(crate) fn of_map(address: Address, v4: u8, v6: u8) -> Self {
        let address = address.ip();
        let len = if address.is_ipv4() { v4 } else { v6 };
        Self { address, len }
    }

    /// One address.
    pub(crate) const fn is_host(self) -> bool {
        self.len == if self.address.is_ipv4() { 32 } else { 128 }
    }

    /// Every address of `other` is in this prefix.
    pub fn contains(self, other: Self) -> bool {
        let differ = left_aligned(self.address) ^ left_aligned(other.address);
        let first = differ.checked_shr(u128::BITS - u32::from(self.len));
        self.address.is_ipv4() == other.address.is_ipv4()
            && self.len <= other.len
            && first.unwrap_or(0) == 0
    }
}

impl fmt::Display for Prefix {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.address, self.len)
    }
}

impl From<Prefix> for String {
    fn from(prefix: Prefix) -> Self {
        prefix.to_string()
    }
}

impl TryFrom<String> for Prefix {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

/// Reads `ADDRESS/LENGTH`, or `ADDRESS` for a single host. The error names the text and the remedy.
impl FromStr for Prefix {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || {
            format!("{text:?} is no prefix: write it as 192.0.2.0/24, 2001:db8::/32 or 192.0.2.7")
        };
        let (address, len) = match text.split_once('/') {
            Some((address, len)) => (address, Some(len)),
            None => (text, None),
        };
        let address: IpAddr = address.parse().map_err(|_| wrong())?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let len = match len {
            Some(len) => len
                .parse()
                .ok()
                .filter(|len| *len <= most)
                .ok_or_else(wrong)?,
            None => most,
        };
        if left_aligned(address).checked_shl(len.into()).unwrap_or(0) != 0 {
            return Err(format!(
                "{text:?} has host bits set below /{len}: clear them, or write a longer prefix"
            ));
        }
        Ok(Self { address, len })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn prefix(text: &str) -> Result<Prefix, String> {
        text.parse()
    }

    #[test]
    fn a_prefix_holds_longer_ones_of_its_family() {
        for (outer, inner, holds) in [
            ("10.0.0.0/8", "10.1.2.3/32", true),
            ("10.0.0.0/8", "11.1.2.3/32", false),
            ("10.1.2.3/32", "10.1.2.3/32", true),
            ("10.1.2.3/32", "10.0.0.0/8", false),
            ("0.0.0.0/0", "192.0.2.1/32", true),
            ("::/0", "2001:db8::/64", true),
            ("::/0", "192.0.2.1/32", false),
            ("2001:db8::/32", "2001:db9::/64", false),
        ] {
            let [outer, inner] = [outer, inner].map(|text| prefix(text).unwrap());
            assert_eq!(outer.contains(inner), holds, "{outer} {inner}");
        }
    }

    #[test]
    fn prefixes_read_back() {
        for text in [
            "192.0.2.0/24",
            "0.0.0.0/0",
            "::/0",
            "2001:db8::/32",
            "192.0.2.7/32",
            "::1/128",
        ] {
            assert_eq!(prefix(text).unwrap().to_string(), text);
        }
        assert_eq!(prefix("192.0.2.7"), prefix("192.0.2.7/32"));
    }

    #[test]
    fn what_is_no_prefix_is_refused() {
        for text in [
            "",
            "x",
            "192.0.2.0/33",
            "::/129",
            "192.0.2/24",
            "192.0.2.0/-1",
            "192.0.2.0/",
        ] {
            assert!(prefix(text).unwrap_err().contains("is no prefix"), "{text}");
        }
        for text in ["192.0.2.1/24", "2001:db8::1/64", "128.0.0.0/0"] {
            assert!(prefix(text).unwrap_err().contains("host bits"), "{text}");
        }
    }
}
