//! The guard of an edge: a router that challenges for the hosts behind it. It has no listener to ask, so a rule holds the
//! terms that a challenge states, and nothing is kept for a connection: the host behind it takes the answer, under the
//! same secret.

use super::{
    listener::{HeaderRules, ListenerFlags},
    rule::GuardPort,
};
use crate::{
    fastopen::Key,
    wire::addresses::{Address, Addresses},
};

/// Key of the trie `GUARD_EDGES`: the port, zeroes that align the value behind the key, then a prefix of an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
#[repr(C)]
pub struct EdgeKey(pub [u32; Self::WORDS]);

// SAFETY: `repr(C)` and u32 throughout: no padding, and any bytes are a key.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EdgeKey {}

impl EdgeKey {
    /// Words of a key.
    pub const WORDS: usize = 6;
    /// Bits in front of the address.
    pub const PORT_BITS: u32 = 2 * u32::BITS;
    /// Bits of a whole key.
    pub const BITS: u32 = Self::PORT_BITS + 128;

    /// Of an address, or the first one of a prefix, and a port.
    #[inline(always)]
    pub const fn new(Address([a, b]): Address, port: u16) -> Self {
        let halves = [a as u32, (a >> 32) as u32, b as u32, (b >> 32) as u32];
        let [a, b, c, d] = halves;
        Self([port as u32, 0, a, b, c, d])
    }

    /// The port.
    pub const fn port(self) -> u16 {
        self.0[0] as u16
    }

    /// The address.
    pub const fn address(self) -> Address {
        let [_, _, a, b, c, d] = self.0;
        Address([a as u64 | (b as u64) << 32, c as u64 | (d as u64) << 32])
    }
}

/// The terms that a challenge states in place of the listener. The hosts behind the edge have to
/// keep them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EdgeTerms {
    /// The receive buffer and the options: [`ListenerFlags`].
    pub listener: u64,
    /// MSS, hop limit and traffic class: [`HeaderRules`].
    pub headers: u64,
    /// The window scale, or [`Self::OF_HOST`].
    pub window_scale: u64,
}

impl EdgeTerms {
    /// In place of a window scale: [`super::GuardHead::window_scale`].
    pub const OF_HOST: u64 = 0xff;

    /// As a look-up would have found them at the listener.
    #[inline(always)]
    pub const fn listener(&self) -> ListenerFlags {
        ListenerFlags::from_word(self.listener)
    }

    /// As above.
    #[inline(always)]
    pub const fn headers(&self) -> HeaderRules {
        HeaderRules::from_word(self.headers)
    }
}

/// A value of the trie `GUARD_EDGES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EdgePort {
    /// Rule and state.
    pub port: GuardPort,
    /// The terms of its challenges.
    pub terms: EdgeTerms,
}

// SAFETY: `repr(C)`, values without padding, and any bytes are a port.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EdgePort {}

/// Entries of the map `EDGE_PASSED`.
pub const PASSED: usize = 1 << 13;

/// Tells the SYN of a handshake, and what is sent again of it, from others. Never 0. Keyed, or one SYN that may pass would
/// open the way to others.
#[inline(always)]
pub fn passed_tag(secret: &Key, addresses: &Addresses, ports: u32, sequence: u32) -> u64 {
    let rest = u64::from(ports) | u64::from(sequence) << 32;
    let hash = match addresses {
        Addresses::V4(word) => secret.siphash(&[*word, rest]),
        Addresses::V6([a, b, c, d]) => secret.siphash(&[*a, *b, *c, *d, rest]),
    };
    hash | 1
}

/// The entry of a tag.
#[inline(always)]
pub const fn passed_index(tag: u64) -> u32 {
    (tag >> 40) as u32 % PASSED as u32
}

#[cfg(test)]
mod tests {
    use core::net::IpAddr;

    use super::*;

    #[test]
    fn a_key_holds_port_and_address() {
        for text in ["198.51.100.7", "2001:db8:1::7"] {
            let ip: IpAddr = text.parse().unwrap();
            let key = EdgeKey::new(Address::of_ip(ip), 443);
            assert_eq!((key.port(), key.address().ip()), (443, ip));
        }
    }
}
