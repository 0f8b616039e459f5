//! The challenge: a SYN cookie that holds the negotiated options and a MAC.
//!
//! Challenges are stateless. ISN and `TSval` of the SYN-ACK encode the negotiated options and a SipHash-2-4 over them,
//! both addresses, both ports, the client's sequence number, the host's window scale and the time slot, under a secret; the
//! client's ACK brings all of it back, but for the scale: whoever takes the ACK has to have the one that was stated.
//! Source: RFC 4987 section 3.6 for the idea.
//!
//! | | ISN | `TSval` |
//! |---|---|---|
//! | with timestamps | 32 bits of the MAC | 10 bits of the MAC, 22 of the options |
//! | without | 25 bits of the MAC, an MSS of [`MSS_TABLE`], a window scale of [`SCALES`], SACK, ECN | |
//!
//! A random ACK is accepted once in 2^41 with timestamps, once in 2^24 without: two time slots, and in the latter case
//! 2^7 sets of options, each have one right answer. (Linux' SYN cookies: once in 2^29.) So a port takes no ACK without
//! timestamps while it is guessed at ([`super::PortState::is_guessed_at`]).

use super::listener::ListenerFlags;
use crate::{
    fastopen::Key,
    wire::{ack::Ack, addresses::Addresses, options::negotiated::TcpOptions},
};

/// The MSS values of a challenge without timestamps, of IPv4 and of IPv6; others are rounded down to one of them, which
/// costs a few bytes in each segment and nothing else.
pub const MSS_TABLE: [[u16; 4]; 2] = [[536, 1360, 1440, 1460], [1220, 1360, 1400, 1440]];

/// The window scales of a challenge without timestamps; others are rounded down, as if the client's window were smaller.
/// The last stands for none.
pub const SCALES: [u8; 8] = [0, 2, 4, 6, 7, 8, 10, NO_SCALE];
const NO_SCALE: u8 = 15;

/// The handshake that a challenge belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Handshake<'a> {
    /// Client's address, then the server's.
    pub addresses: &'a Addresses,
    /// Client's port, then the server's, as on the wire, in a little-endian word.
    pub ports: u32,
    /// Sequence number of the client's SYN.
    pub sequence: u32,
    /// The window scale that the SYN-ACK states, or that the taker of the ACK has.
    pub window_scale: u32,
}

/// The fields of a SYN-ACK that hold a challenge.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Challenge {
    /// ISN.
    pub isn: u32,
    /// `TSval`, if it has timestamps.
    pub tsval: u32,
    /// The negotiated options: the client's, as far as the challenge has room for them.
    pub options: TcpOptions,
}

/// Shifts of an ISN without timestamps: the window scale's index, SACK and ECN, the MSS' index, the MAC.
const FLAGS: u32 = 3;
const MSS: u32 = 5;
const MAC: u32 = 7;

/// `options` as an ISN without timestamps holds them, and those bits of it.
#[inline(always)]
const fn pack(options: TcpOptions, addresses: &Addresses) -> (TcpOptions, u32) {
    let scale = match options.window_scale() {
        Some(scale) => index_below(&SCALES, scale),
        None => SCALES.len() as u32 - 1,
    };
    let mss = mss_index(options.mss(), addresses);
    // SACK and ECN are the two bits above the scale.
    let flags = options.bits() >> (TcpOptions::BITS - 2);
    let bits = scale | flags << FLAGS | mss << MSS;
    (unpack(bits, addresses), bits)
}

/// The options that an ISN without timestamps holds.
#[inline(always)]
const fn unpack(isn: u32, addresses: &Addresses) -> TcpOptions {
    let scale = scale_at(isn) as u32;
    let flags = isn >> FLAGS & 3;
    let bits = scale << u16::BITS | flags << (TcpOptions::BITS - 2);
    TcpOptions::from_bits(bits, false).with_mss(mss_at(isn >> MSS, addresses))
}

impl Challenge {
    /// The challenge for a handshake with `options` in a time slot. What the challenge encodes passes through `barrier`
    /// (see [`crate::wire::Frame::barrier_var`]): the verifier is to follow the MAC once.
    #[inline(always)]
    pub fn issue(
        secret: &Key,
        handshake: Handshake<'_>,
        options: TcpOptions,
        slot: u64,
        barrier: impl Fn(u64) -> u64,
    ) -> Self {
        if options.timestamps() {
            let mac = mac(secret, handshake, options, slot);
            return Self {
                isn: mac as u32,
                tsval: options.bits() | ((mac >> 32) as u32) << TcpOptions::BITS,
                options,
            };
        }
        let (options, bits) = pack(options, handshake.addresses);
        let options = options.barrier_var(&barrier);
        let bits = barrier(bits.into()) as u32;
        let mac = mac(secret, handshake, options, slot);
        Self {
            isn: (mac as u32) << MAC | bits,
            tsval: 0,
            options,
        }
    }

    /// The options negotiated with the sender of `ack`, if that answers a challenge.
    #[inline(always)]
    pub const fn options_of(ack: &Ack) -> TcpOptions {
        match &ack.timestamps {
            Some(timestamps) => TcpOptions::from_bits(timestamps.tsecr, true),
            None => unpack(ack.acknowledged.wrapping_sub(1), &ack.addresses),
        }
    }

    /// `true` if `ack`, with these [`Self::options_of`] it, answers a challenge of this time slot that stated this window
    /// scale.
    #[inline(always)]
    pub fn is_answered(
        secret: &Key,
        ack: &Ack,
        options: TcpOptions,
        window_scale: u32,
        slot: u64,
    ) -> bool {
        let isn = ack.acknowledged.wrapping_sub(1);
        let handshake = Handshake {
            window_scale,
            addresses: &ack.addresses,
            ports: ack.ports,
            sequence: ack.sequence.wrapping_sub(1),
        };
        let mac = mac(secret, handshake, options, slot);
        let difference = match &ack.timestamps {
            Some(timestamps) => {
                let high = ((mac >> 32) as u32) << TcpOptions::BITS;
                (mac as u32 ^ isn) | (high ^ timestamps.tsecr) >> TcpOptions::BITS
            }
            None => ((mac as u32) << MAC ^ isn) >> MAC,
        };
        difference == 0
    }
}

/// Shift of the host's window scale in the MAC's last word, above [`TcpOptions::word`].
const SCALE: u32 = 28;
const _: () = assert!(TcpOptions::BITS < SCALE);

#[inline(always)]
fn mac(secret: &Key, handshake: Handshake<'_>, options: TcpOptions, slot: u64) -> u64 {
    let ports = u64::from(handshake.ports) | u64::from(handshake.sequence) << 32;
    // Without window scaling, none was stated.
    let scale = match options.window_scale() {
        Some(_) => handshake.window_scale & 0xf,
        None => 0,
    };
    let rest = slot << 32 | u64::from(options.word() | scale << SCALE);
    match handshake.addresses {
        Addresses::V4(word) => secret.siphash(&[*word, ports, rest]),
        Addresses::V6([a, b, c, d]) => secret.siphash(&[*a, *b, *c, *d, ports, rest]),
    }
}

/// Index of the greatest MSS in the table that is not greater than `mss`; 0 where all are.
#[inline(always)]
const fn mss_index(mss: u16, addresses: &Addresses) -> u32 {
    let (mut index, mut at) = (0, 1);
    while at < MSS_TABLE[0].len() {
        if mss_at(at as u32, addresses) <= mss {
            index = at as u32;
        }
        at += 1;
    }
    index
}

/// The MSS with this index, modulo 4. Written so that the program needs no table.
#[inline(always)]
const fn mss_at(index: u32, addresses: &Addresses) -> u16 {
    let [v4, v6] = MSS_TABLE;
    match (addresses, index & 3) {
        (Addresses::V4(_), 0) => v4[0],
        (Addresses::V4(_), 1) => v4[1],
        (Addresses::V4(_), 2) => v4[2],
        (Addresses::V4(_), _) => v4[3],
        (Addresses::V6(_), 0) => v6[0],
        (Addresses::V6(_), 1) => v6[1],
        (Addresses::V6(_), 2) => v6[2],
        (Addresses::V6(_), _) => v6[3],
    }
}

/// Index of the greatest of `values` but the last that is not greater than `value`.
#[inline(always)]
const fn index_below(values: &[u8; 8], value: u8) -> u32 {
    let (mut index, mut at) = (0, 1);
    while at < values.len() - 1 {
        if values[at] <= value {
            index = at as u32;
        }
        at += 1;
    }
    index
}

/// The window scale with this index, modulo 8; [`NO_SCALE`] for none.
#[inline(always)]
const fn scale_at(index: u32) -> u8 {
    match index & 7 {
        0 => SCALES[0],
        1 => SCALES[1],
        2 => SCALES[2],
        3 => SCALES[3],
        4 => SCALES[4],
        5 => SCALES[5],
        6 => SCALES[6],
        _ => SCALES[7],
    }
}

/// Bytes that a timestamps option takes of each segment, with its padding.
const TIMESTAMPS_LEN: u16 = 12;

/// The window of the SYN-ACK, in bytes, unscaled: whole segments of half the receive buffer, as the kernel's would be
/// (`tcp_select_initial_window`). `mss` is the host's.
#[inline(always)]
pub fn initial_window(listener: ListenerFlags, mss: u16, timestamps: bool) -> u16 {
    let space = listener.space();
    let segment = mss.saturating_sub(if timestamps { TIMESTAMPS_LEN } else { 0 });
    let segment = u32::from(segment);
    let window = match space.checked_rem(segment) {
        Some(rest) if segment < space => space - rest,
        _ => space,
    };
    window.min(u16::MAX.into()) as u16
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::wire::options::negotiated::{HostOptions, Timestamps};

    const SECRET: Key = Key::from_groups([1, 2, 3, 4]);

    fn addresses() -> impl Strategy<Value = Addresses> {
        prop_oneof![
            any::<u64>().prop_map(Addresses::V4),
            any::<[u64; 4]>().prop_map(Addresses::V6)
        ]
    }

    fn issue(secret: &Key, handshake: Handshake<'_>, options: TcpOptions, slot: u64) -> Challenge {
        Challenge::issue(secret, handshake, options, slot, |word| word)
    }

    fn check(secret: &Key, ack: &Ack, slot: u64) -> Option<TcpOptions> {
        let options = Challenge::options_of(ack);
        Challenge::is_answered(secret, ack, options, 7, slot).then_some(options)
    }

    /// The ACK of a client to this challenge.
    fn answer(addresses: Addresses, ports: u32, sequence: u32, challenge: Challenge) -> Ack {
        Ack {
            addresses,
            ports,
            sequence: sequence.wrapping_add(1),
            acknowledged: challenge.isn.wrapping_add(1),
            timestamps: challenge.options.timestamps().then_some(Timestamps {
                tsval: 5,
                tsecr: challenge.tsval,
            }),
            tcp: 0,
            len: 0,
        }
    }

    proptest! {
        #[test]
        fn an_ack_brings_the_options_back(
            addresses in addresses(), ports: u32, sequence: u32, bits: u32, timestamps: bool, slot in 0_u64..1 << 30,
        ) {
            let offered = TcpOptions::from_bits(bits, timestamps);
            let handshake = Handshake { addresses: &addresses, ports, sequence, window_scale: 7 };
            let challenge = issue(&SECRET, handshake, offered, slot);
            if timestamps {
                prop_assert_eq!(challenge.options, offered);
            } else {
                let (agreed, least) = (challenge.options, mss_at(0, &addresses));
                prop_assert!(agreed.mss() <= offered.mss() || agreed.mss() == least);
                prop_assert!(agreed.window_scale() <= offered.window_scale());
                prop_assert_eq!(agreed.window_scale().is_some(), offered.window_scale().is_some());
                prop_assert_eq!((agreed.sack(), agreed.ecn()), (offered.sack(), offered.ecn()));
            }
            let ack = answer(addresses, ports, sequence, challenge);
            prop_assert_eq!(check(&SECRET, &ack, slot), Some(challenge.options));
        }

        #[test]
        fn nothing_else_passes(
            addresses in addresses(), ports: u32, sequence: u32, bits: u32, slot in 1_u64..1 << 30, flip in 0_u32..32,
        ) {
            let offered = TcpOptions::from_bits(bits, true);
            let handshake = Handshake { addresses: &addresses, ports, sequence, window_scale: 7 };
            let challenge = issue(&SECRET, handshake, offered, slot);
            let ack = answer(addresses, ports, sequence, challenge);
            let tsecr = ack.timestamps.unwrap().tsecr;
            let bit = 1 << flip;
            let other_stamps = Some(Timestamps { tsval: 5, tsecr: tsecr ^ bit });
            for other in [
                Ack { sequence: ack.sequence ^ bit, ..ack },
                Ack { acknowledged: ack.acknowledged ^ bit, ..ack },
                Ack { ports: ack.ports ^ bit, ..ack },
                Ack { timestamps: other_stamps, ..ack },
                Ack { timestamps: None, ..ack },
            ] {
                prop_assert_eq!(check(&SECRET, &other, slot), None);
            }
            prop_assert_eq!(check(&SECRET, &ack, slot - 1), None);
            let scales = |scale| Challenge::is_answered(&SECRET, &ack, Challenge::options_of(&ack), scale, slot);
            let scaled = offered.window_scale().is_some();
            prop_assert!(scales(7) && scales(8) != scaled);
            prop_assert_eq!(check(&Key::from_groups([1, 2, 3, 5]), &ack, slot), None);
        }
    }

    /// Linux advertises 65,160 bytes to a client on Ethernet with timestamps.
    #[test]
    fn the_first_window_is_whole_segments_of_half_the_buffer() {
        let host = HostOptions {
            window_scaling: true,
            sack: true,
            ecn: false,
            timestamps: true,
        };
        for (buffer, mss, timestamps, window) in [
            (131_072, 1460, true, 65_160),
            (131_072, 1440, true, 64_260),
            (131_072, 1460, false, 64_240),
            (65_536, 1460, true, 31_856),
            // Less than a segment.
            (2048, 1460, true, 1024),
            (0, 1460, true, 0),
            // No segment at all.
            (131_072, 8, true, 65_535),
            (604_498, 670, false, 65_535),
        ] {
            let listener = ListenerFlags::new(buffer, host);
            let found = initial_window(listener, mss, timestamps);
            assert_eq!(found, window, "{buffer} {mss} {timestamps}");
        }
    }

    #[test]
    fn an_mss_is_rounded_down() {
        let (v4, v6) = (Addresses::V4(0), Addresses::V6([0; 4]));
        for (addresses, offered, agreed) in [
            (v4, 0, 536),
            (v4, 1359, 536),
            (v4, 1400, 1360),
            (v4, 1452, 1440),
            (v4, 1460, 1460),
            (v4, 65_535, 1460),
            (v6, 536, 1220),
            (v6, 1440, 1440),
            (v6, 1432, 1400),
        ] {
            let index = mss_index(offered, &addresses);
            assert_eq!(mss_at(index, &addresses), agreed, "{offered}");
        }
    }
}
