//! IP addresses as packets and maps hold them, and prefixes of them.

use core::net::{IpAddr, Ipv6Addr};

/// Source then destination address as on the wire, in little-endian words: the input of the cookie's hash.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Two IPv4 addresses, the source in the low half.
    V4(u64),
    /// Two IPv6 addresses, two words each.
    V6([u64; 4]),
}

impl Addresses {
    /// From the bytes on the wire.
    pub fn v4(source: [u8; 4], destination: [u8; 4]) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&source);
        bytes[4..].copy_from_slice(&destination);
        Self::V4(u64::from_le_bytes(bytes))
    }

    /// From the bytes on the wire.
    pub fn v6(source: [u8; 16], destination: [u8; 16]) -> Self {
        let (source, destination) = (
            u128::from_le_bytes(source),
            u128::from_le_bytes(destination),
        );
        Self::V6([
            source as u64,
            (source >> 64) as u64,
            destination as u64,
            (destination >> 64) as u64,
        ])
    }

    /// The addresses of a packet that goes the other way.
    #[inline(always)]
    #[must_use]
    pub const fn reversed(&self) -> Self {
        match self {
            Self::V4(word) => Self::V4(word.rotate_left(32)),
            Self::V6([a, b, c, d]) => Self::V6([*c, *d, *a, *b]),
        }
    }
}

/// `true` if the source address is martian: the kernel drops packets from it (`ip_route_input_slow`, `ip6_rcv_core`).
#[inline(always)]
pub const fn is_martian(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4(word) => {
            let (source, destination) = (*word as u32, (*word >> 32) as u32);
            let first = source as u8;
            let loops = first == 127 && destination as u8 != 127;
            // 0.0.0.0; 224/4; 255.255.255.255.
            source == 0
                || first & 0xf0 == 0xe0
                || source == u32::MAX
                || loops
                || (source == destination && first != 127)
        }
        Addresses::V6([a, b, c, d]) => {
            let loopback = *a == 0 && *b == 1 << 56;
            let to_loopback = *c == 0 && *d == 1 << 56;
            let unspecified = *a == 0 && *b == 0;
            let mapped = *a == 0 && *b as u32 == 0xffff_0000;
            *a as u8 == 0xff || unspecified || mapped || (loopback && !to_loopback)
        }
    }
}

/// `true` if the destination is a loopback address, which no packet has that comes by another device
/// (`ip_route_input_slow`, `ip6_rcv_core`).
#[inline(always)]
pub const fn is_to_loopback(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4(word) => (*word >> 32) as u8 == 127,
        Addresses::V6([_, _, c, d]) => *c == 0 && *d == 1 << 56,
    }
}

/// `true` if an IPv6 packet's destination is IPv4-mapped. [`Address`] would have it as the IPv4 address, for which it is not.
#[inline(always)]
pub const fn is_to_mapped(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4(_) => false,
        Addresses::V6([_, _, c, d]) => *c == 0 && *d as u32 as u64 == Address::MAPPED,
    }
}

/// One address in the form of IPv6, the wire's bytes in little-endian words; IPv4 as `::ffff:a.b.c.d`. Linux drops
/// IPv6 packets with such a source (`ip6_rcv_core`), so the two families do not mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Address(pub [u64; 2]);

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are an address.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Address {}

impl Address {
    /// The low half of the second word of an IPv4-mapped address.
    const MAPPED: u64 = 0xffff_0000;

    #[inline(always)]
    const fn v4(address: u32) -> Self {
        Self([0, (address as u64) << 32 | Self::MAPPED])
    }

    /// The source of a pair.
    #[inline(always)]
    pub const fn source(addresses: &Addresses) -> Self {
        match addresses {
            Addresses::V4(word) => Self::v4(*word as u32),
            Addresses::V6([a, b, _, _]) => Self([*a, *b]),
        }
    }

    /// The destination of a pair.
    #[inline(always)]
    pub const fn destination(addresses: &Addresses) -> Self {
        match addresses {
            Addresses::V4(word) => Self::v4((*word >> 32) as u32),
            Addresses::V6([_, _, a, b]) => Self([*a, *b]),
        }
    }

    /// From the 16 bytes on the wire.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Self([bits as u64, (bits >> 64) as u64])
    }

    /// From an address as `std` has it.
    pub fn of_ip(address: IpAddr) -> Self {
        Self::from_bytes(match address {
            IpAddr::V4(address) => address.to_ipv6_mapped().octets(),
            IpAddr::V6(address) => address.octets(),
        })
    }

    /// As `std` has it, an IPv4-mapped address as IPv4.
    pub fn ip(self) -> IpAddr {
        let [a, b] = self.0;
        let bytes = u128::from(a) | u128::from(b) << 64;
        Ipv6Addr::from(bytes.to_le_bytes()).to_canonical()
    }
}

/// The lengths of the prefixes by which sources are counted and limited, as masks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PrefixMask {
    /// 1 where sources are told apart at all, else 0.
    pub enabled: u64,
    /// Mask of the second word of an IPv4 [`Address`].
    pub v4: u64,
    /// Mask of an IPv6 [`Address`].
    pub v6: [u64; 2],
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are masks.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PrefixMask {}

impl PrefixMask {
    /// Sources are not told apart.
    pub const OFF: Self = Self {
        enabled: 0,
        v4: 0,
        v6: [0; 2],
    };

    /// Masks for prefixes of these lengths, at most 32 and 128 bits.
    pub fn new(v4: u8, v6: u8) -> Self {
        let ones = |len: u8| u128::MAX.checked_shl(128 - u32::from(len)).unwrap_or(0);
        let words = |mask: u128| {
            let mask = u128::from_le_bytes(mask.to_be_bytes());
            [mask as u64, (mask >> 64) as u64]
        };
        let [_, v4] = words(ones(96 + v4.min(32)));
        Self {
            enabled: 1,
            v4,
            v6: words(ones(v6.min(128))),
        }
    }

    /// Bits of an IPv4 prefix.
    pub const fn v4_len(&self) -> u8 {
        // Half of the word is the mapped form's own.
        (self.v4.count_ones() - 32) as u8
    }

    /// Bits of an IPv6 prefix.
    pub const fn v6_len(&self) -> u8 {
        (self.v6[0].count_ones() + self.v6[1].count_ones()) as u8
    }

    /// The prefix of a segment's source.
    #[inline(always)]
    pub const fn prefix(&self, addresses: &Addresses) -> Address {
        let Address([a, b]) = Address::source(addresses);
        Address(match addresses {
            Addresses::V4(_) => [a, b & self.v4],
            Addresses::V6(_) => [a & self.v6[0], b & self.v6[1]],
        })
    }
}

#[cfg(test)]
mod tests {
    use std::string::ToString as _;

    use super::*;

    fn addresses(source: &str, destination: &str) -> Addresses {
        match (source.parse().unwrap(), destination.parse().unwrap()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => Addresses::v4(from.octets(), to.octets()),
            (IpAddr::V6(from), IpAddr::V6(to)) => Addresses::v6(from.octets(), to.octets()),
            _ => unreachable!(),
        }
    }

    #[test]
    fn addresses_read_back() {
        for (source, destination) in [("192.0.2.7", "198.51.100.2"), ("2001:db8:1::7", "fd77::1")] {
            let both = addresses(source, destination);
            assert_eq!(Address::source(&both).ip().to_string(), source);
            assert_eq!(Address::destination(&both).ip().to_string(), destination);
        }
    }

    #[test]
    fn prefixes_are_cut_to_their_length() {
        for (v4, v6, source, prefix) in [
            (32, 64, "192.0.2.255", "192.0.2.255"),
            (24, 64, "192.0.2.255", "192.0.2.0"),
            (23, 64, "192.0.3.255", "192.0.2.0"),
            (0, 64, "192.0.3.255", "0.0.0.0"),
            (32, 128, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2:3:4:5:6"),
            (32, 64, "2001:db8:1:2:3:4:5:6", "2001:db8:1:2::"),
            (32, 47, "2001:db8:1:2:3:4:5:6", "2001:db8::"),
            (32, 72, "2001:db8:1:2:ff12::", "2001:db8:1:2:ff00::"),
            (32, 0, "2001:db8:1:2:3:4:5:6", "::"),
        ] {
            let to = if source.contains(':') {
                "::1"
            } else {
                "10.0.0.1"
            };
            let settings = PrefixMask::new(v4, v6);
            assert_eq!((settings.v4_len(), settings.v6_len()), (v4, v6));
            let cut = settings.prefix(&addresses(source, to));
            assert_eq!(cut.ip().to_string(), prefix, "{source} /{v4} /{v6}");
        }
    }

    #[test]
    fn martians_are_known() {
        let v4 = |source| Addresses::v4(source, [10, 0, 0, 1]);
        for source in [
            [0, 0, 0, 0],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [239, 255, 0, 1],
            [255; 4],
            [10, 0, 0, 1],
        ] {
            assert!(is_martian(&v4(source)), "{source:?}");
        }
        for source in [
            [0, 1, 2, 3],
            [10, 0, 0, 2],
            [223, 255, 255, 255],
            [240, 0, 0, 1],
        ] {
            assert!(!is_martian(&v4(source)), "{source:?}");
        }
        let lo = [127, 0, 0, 1];
        assert!(!is_martian(&Addresses::v4(lo, lo)));
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let to = v6("2001:db8::1");
        for source in ["::", "::1", "::ffff:10.0.0.2", "ff02::1"] {
            assert!(is_martian(&Addresses::v6(v6(source), to)), "{source}");
        }
        // Of IPv6, the kernel takes packets from its own address.
        for source in ["2001:db8::1", "2001:db8::2", "fe80::1"] {
            assert!(!is_martian(&Addresses::v6(v6(source), to)), "{source}");
        }
        assert!(!is_martian(&Addresses::v6(v6("::1"), v6("::1"))));
        for (destination, expected) in [("::ffff:10.0.0.1", true), ("::10.0.0.1", false)] {
            let addresses = Addresses::v6(to, v6(destination));
            assert_eq!(is_to_mapped(&addresses), expected, "{destination}");
        }
        assert!(!is_to_mapped(&v4([10, 0, 0, 2])));
    }
}
