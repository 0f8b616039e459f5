//! Who asks for Fast Open and who uses it: counts by source prefix.

use core::net::{IpAddr, Ipv6Addr};

use crate::{classify::Outcome, cookie::Addresses};

/// An address as IPv6, on the wire's bytes in little-endian words; IPv4 as `::ffff:a.b.c.d`. Linux drops
/// packets that have such an address as their own (`ipv6_rcv_core`), so the two do not mix.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(C)]
pub struct Address(pub [u64; 2]);

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are an address.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Address {}

impl Address {
    /// What stands before an IPv4 address in its second word.
    const MAPPED: u64 = 0xffff_0000;

    #[inline(always)]
    const fn v4(address: u32) -> Self {
        Self([0, (address as u64) << 32 | Self::MAPPED])
    }

    /// Where a segment comes from.
    #[inline(always)]
    pub const fn source(addresses: &Addresses) -> Self {
        match addresses {
            Addresses::V4(word) => Self::v4(*word as u32),
            Addresses::V6([a, b, _, _]) => Self([*a, *b]),
        }
    }

    /// Where it goes.
    #[inline(always)]
    pub const fn destination(addresses: &Addresses) -> Self {
        match addresses {
            Addresses::V4(word) => Self::v4((*word >> 32) as u32),
            Addresses::V6([_, _, a, b]) => Self([*a, *b]),
        }
    }

    /// The one whose bytes on the wire these are.
    pub const fn from_bytes(bytes: [u8; 16]) -> Self {
        let bits = u128::from_le_bytes(bytes);
        Self([bits as u64, (bits >> 64) as u64])
    }

    /// The address, IPv4 as such.
    pub fn ip(self) -> IpAddr {
        let [a, b] = self.0;
        let bytes = u128::from(a) | u128::from(b) << 64;
        Ipv6Addr::from(bytes.to_le_bytes()).to_canonical()
    }
}

/// What a source is cut down to: the program's constant `SOURCE_SETTINGS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct SourceSettings {
    /// 1 where sources are counted, else 0.
    pub enabled: u64,
    /// The bits that count of the second word of an IPv4 source's [`Address`].
    pub v4: u64,
    /// The bits that count of an IPv6 source's [`Address`].
    pub v6: [u64; 2],
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are masks.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SourceSettings {}

impl SourceSettings {
    /// Sources are not counted.
    pub const OFF: Self = Self {
        enabled: 0,
        v4: 0,
        v6: [0; 2],
    };

    /// Sources are counted by prefixes of these lengths, at most 32 and 128.
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

    /// How long an IPv4 source's prefix is. Half of the word is what stands before every IPv4 address.
    pub const fn v4_len(&self) -> u8 {
        (self.v4.count_ones() - 32) as u8
    }

    /// How long an IPv6 source's prefix is.
    pub const fn v6_len(&self) -> u8 {
        (self.v6[0].count_ones() + self.v6[1].count_ones()) as u8
    }

    /// The prefix that a segment's source belongs to.
    #[inline(always)]
    pub const fn prefix(&self, addresses: &Addresses) -> Address {
        let Address([a, b]) = Address::source(addresses);
        Address(match addresses {
            Addresses::V4(_) => [a, b & self.v4],
            Addresses::V6(_) => [a & self.v6[0], b & self.v6[1]],
        })
    }
}

/// What a SYN says about its source. Every SYN that is counted by source is exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Habit {
    /// It asked for a cookie, and the kernel gives it one.
    Request,
    /// Its data was taken.
    Use,
    /// It had a cookie that is not valid.
    Failure,
    /// Anything else.
    Other,
}

impl Habit {
    /// How many there are.
    pub const COUNT: usize = 4;

    /// What a SYN of this outcome is.
    #[inline(always)]
    pub const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Request => Self::Request,
            Outcome::Primary | Outcome::Backup | Outcome::WithoutCookie => Self::Use,
            Outcome::BadCookie | Outcome::BadLength => Self::Failure,
            _ => Self::Other,
        }
    }
}

/// What came from one prefix.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SourceCounts([u64; Habit::COUNT]);

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are counts.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SourceCounts {}

impl SourceCounts {
    /// From so many cookies on, a client that uses none of them counts as one that cannot.
    pub const ASKS: u64 = 3;

    /// How many SYNs were such.
    pub const fn get(&self, habit: Habit) -> u64 {
        self.0[habit as usize]
    }

    /// All SYNs.
    pub fn syns(&self) -> u64 {
        self.0.iter().fold(0, |sum, each| sum.wrapping_add(*each))
    }

    /// The SYNs that had to do with cookies: what sources are sorted by.
    pub const fn weight(&self) -> u64 {
        self.get(Habit::Request)
            .saturating_add(self.get(Habit::Use))
            .saturating_add(self.get(Habit::Failure))
    }

    /// It was given a cookie [`Self::ASKS`] times or more, and never used one: something on its way
    /// lets requests pass, and cookies or data not.
    pub const fn asks_without_using(&self) -> bool {
        self.get(Habit::Request) >= Self::ASKS && self.get(Habit::Use) == 0
    }
}

impl core::ops::AddAssign for SourceCounts {
    fn add_assign(&mut self, more: Self) {
        for (value, more) in self.0.iter_mut().zip(more.0) {
            *value = value.wrapping_add(more);
        }
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
            let settings = SourceSettings::new(v4, v6);
            assert_eq!((settings.v4_len(), settings.v6_len()), (v4, v6));
            let cut = settings.prefix(&addresses(source, to));
            assert_eq!(cut.ip().to_string(), prefix, "{source} /{v4} /{v6}");
        }
    }

    #[test]
    fn asking_without_using_takes_three_and_no_use() {
        for (counts, asks) in [
            ([2, 0, 0, 9], false),
            ([3, 0, 0, 0], true),
            ([3, 0, 1, 0], true),
            ([9, 1, 0, 0], false),
        ] {
            assert_eq!(SourceCounts(counts).asks_without_using(), asks);
        }
    }
}
