//! The guard's cookie: what a client that was challenged has to bring back, and what it says of the connection.
//!
//! Nothing is kept of a SYN that was challenged. What its SYN-ACK says holds what was agreed upon and a hash
//! over that, both addresses, both ports, the client's sequence number and the time, under a secret; the
//! client's ACK brings all of it back. Source: RFC 4987 section 3.6 for the idea; the hash is SipHash-2-4.
//!
//! | | sequence number | `TSval` |
//! |---|---|---|
//! | with timestamps | 32 bits of the hash | 10 bits of the hash, 22 of what was agreed upon |
//! | without | 23 bits of the hash, a segment size of [`SEGMENT_SIZES`], scale, SACK, ECN | |
//!
//! A random ACK passes as proof once in 2^41 with timestamps, once in 2^22 without: two slots of time, and in
//! the latter case 2^9 agreements, each have one right answer. (Linux' SYN cookies: once in 2^29.)

use crate::{
    cookie::{Addresses, Key, siphash},
    wire::{ack::Ack, offer::Offer},
};

/// The segment sizes that a cookie without timestamps has room for; others are rounded down to one of them,
/// which costs a few bytes in each segment and nothing else.
pub const SEGMENT_SIZES: [u16; 8] = [536, 1220, 1360, 1400, 1440, 1452, 1460, 8940];

/// What identifies a handshake besides what was agreed upon.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// The client's address, then the server's.
    pub addresses: &'a Addresses,
    /// The client's port, then the server's, as on the wire, in a little-endian word.
    pub ports: u32,
    /// The sequence number of the client's SYN.
    pub sequence: u32,
}

/// What a SYN-ACK says of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// Its sequence number.
    pub sequence: u32,
    /// Its `TSval`, if it has timestamps.
    pub clock: u32,
    /// What it agrees upon: the client's offer, as far as the cookie has room for it.
    pub agreed: Offer,
}

/// Where the parts are of a sequence number without timestamps.
const SIZE: u32 = 6;
const HASH: u32 = 9;
const TERMS_MASK: u32 = (1 << SIZE) - 1;

impl Challenge {
    /// The challenge for a handshake with `offer` in a slot of time.
    #[inline(always)]
    pub fn issue(secret: &Key, handshake: Handshake<'_>, offer: Offer, slot: u64) -> Self {
        if offer.timestamps() {
            let hash = hash(secret, handshake, offer, slot);
            return Self {
                sequence: hash as u32,
                clock: offer.bits() | ((hash >> 32) as u32) << Offer::BITS,
                agreed: offer,
            };
        }
        let index = size_index(offer.segment_size());
        let agreed = offer.with_segment_size(size_at(index));
        let hash = hash(secret, handshake, agreed, slot);
        // Scale, SACK and ECN stand above the segment size.
        let terms = agreed.bits() >> u16::BITS;
        Self {
            sequence: (hash as u32) << HASH | index << SIZE | terms,
            clock: 0,
            agreed,
        }
    }

    /// What was agreed upon with the sender of `ack`, if that brings back the challenge of a slot of time.
    #[inline(always)]
    pub fn check(secret: &Key, ack: &Ack, slot: u64) -> Option<Offer> {
        let sequence = ack.acknowledged.wrapping_sub(1);
        let agreed = match &ack.clocks {
            Some(clocks) => Offer::from_bits(clocks.echo, true),
            None => Offer::from_bits((sequence & TERMS_MASK) << u16::BITS, false)
                .with_segment_size(size_at(sequence >> SIZE)),
        };
        let handshake = Handshake {
            addresses: &ack.addresses,
            ports: ack.ports,
            sequence: ack.sequence.wrapping_sub(1),
        };
        let hash = hash(secret, handshake, agreed, slot);
        let right = match &ack.clocks {
            Some(clocks) => {
                let high = ((hash >> 32) as u32) << Offer::BITS;
                (hash as u32 ^ sequence) | (high ^ clocks.echo) >> Offer::BITS
            }
            None => ((hash as u32) << HASH ^ sequence) >> HASH,
        };
        (right == 0).then_some(agreed)
    }
}

#[inline(always)]
fn hash(secret: &Key, handshake: Handshake<'_>, agreed: Offer, slot: u64) -> u64 {
    let ports = u64::from(handshake.ports) | u64::from(handshake.sequence) << 32;
    let terms = slot << 32 | u64::from(agreed.word());
    match handshake.addresses {
        Addresses::V4(word) => siphash(secret, &[*word, ports, terms]),
        Addresses::V6([a, b, c, d]) => siphash(secret, &[*a, *b, *c, *d, ports, terms]),
    }
}

/// The place of the greatest of [`SEGMENT_SIZES`] that is not greater; the first one where all are.
#[inline(always)]
const fn size_index(size: u16) -> u32 {
    let (mut index, mut at) = (0, 1);
    while at < SEGMENT_SIZES.len() {
        if SEGMENT_SIZES[at] <= size {
            index = at as u32;
        }
        at += 1;
    }
    index
}

/// The one at a place. Written so that no table is needed in the kernel.
#[inline(always)]
const fn size_at(index: u32) -> u16 {
    match index & 7 {
        0 => SEGMENT_SIZES[0],
        1 => SEGMENT_SIZES[1],
        2 => SEGMENT_SIZES[2],
        3 => SEGMENT_SIZES[3],
        4 => SEGMENT_SIZES[4],
        5 => SEGMENT_SIZES[5],
        6 => SEGMENT_SIZES[6],
        _ => SEGMENT_SIZES[7],
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::offer::Clocks;

    const SECRET: Key = Key::from_groups([1, 2, 3, 4]);

    fn addresses() -> impl Strategy<Value = Addresses> {
        prop_oneof![
            any::<u64>().prop_map(Addresses::V4),
            any::<[u64; 4]>().prop_map(Addresses::V6)
        ]
    }

    /// The ACK that a client sends which was challenged so.
    fn answer(addresses: Addresses, ports: u32, sequence: u32, challenge: Challenge) -> Ack {
        Ack {
            addresses,
            ports,
            sequence: sequence.wrapping_add(1),
            acknowledged: challenge.sequence.wrapping_add(1),
            clocks: challenge.agreed.timestamps().then_some(Clocks {
                value: 5,
                echo: challenge.clock,
            }),
        }
    }

    proptest! {
        #[test]
        fn an_ack_brings_back_what_was_agreed_upon(
            addresses in addresses(), ports: u32, sequence: u32, bits: u32, timestamps: bool, slot in 0_u64..1 << 30,
        ) {
            let offer = Offer::from_bits(bits, timestamps);
            let handshake = Handshake { addresses: &addresses, ports, sequence };
            let challenge = Challenge::issue(&SECRET, handshake, offer, slot);
            if timestamps {
                prop_assert_eq!(challenge.agreed, offer);
            } else {
                let size = challenge.agreed.segment_size();
                prop_assert!(size <= offer.segment_size() || size == SEGMENT_SIZES[0]);
                prop_assert_eq!(challenge.agreed, offer.with_segment_size(size));
            }
            let ack = answer(addresses, ports, sequence, challenge);
            prop_assert_eq!(Challenge::check(&SECRET, &ack, slot), Some(challenge.agreed));
        }

        #[test]
        fn nothing_else_passes(
            addresses in addresses(), ports: u32, sequence: u32, bits: u32, slot in 1_u64..1 << 30, flip in 0_u32..32,
        ) {
            let offer = Offer::from_bits(bits, true);
            let handshake = Handshake { addresses: &addresses, ports, sequence };
            let challenge = Challenge::issue(&SECRET, handshake, offer, slot);
            let ack = answer(addresses, ports, sequence, challenge);
            let echo = ack.clocks.unwrap().echo;
            let bit = 1 << flip;
            let other_clocks = Some(Clocks { value: 5, echo: echo ^ bit });
            for other in [
                Ack { sequence: ack.sequence ^ bit, ..ack },
                Ack { acknowledged: ack.acknowledged ^ bit, ..ack },
                Ack { ports: ack.ports ^ bit, ..ack },
                Ack { clocks: other_clocks, ..ack },
                Ack { clocks: None, ..ack },
            ] {
                prop_assert_eq!(Challenge::check(&SECRET, &other, slot), None);
            }
            prop_assert_eq!(Challenge::check(&SECRET, &ack, slot - 1), None);
            prop_assert_eq!(Challenge::check(&Key::from_groups([1, 2, 3, 5]), &ack, slot), None);
        }
    }

    #[test]
    fn segment_sizes_are_rounded_down() {
        for (offered, agreed) in [
            (0, 536),
            (536, 536),
            (1219, 536),
            (1220, 1220),
            (1459, 1452),
            (1460, 1460),
            (8939, 1460),
            (8940, 8940),
            (65_535, 8940),
        ] {
            assert_eq!(size_at(size_index(offered)), agreed, "{offered}");
        }
    }
}
