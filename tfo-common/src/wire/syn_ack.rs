//! A SYN-ACK written from scratch: network header, TCP header, and options in Linux' order (`tcp_synack_options`,
//! `tcp_options_write`).

use super::{
    addresses::Addresses,
    checksum,
    options::{fast_open::Cookie, negotiated::TcpOptions},
    syn::Syn,
    tcp,
};

/// 32-bit words of a SYN-ACK, a power of two, so that a mask bounds an offset.
pub const WORDS: usize = 32;
/// Words of an IPv6 header, behind which the TCP header stands; an IPv4 header stands right before it, too.
const NETWORK: usize = 10;
const V4_WORDS: usize = 5;
const OPTIONS: usize = NETWORK + tcp::MIN_HEADER_LEN / 4;

const SYN_ACK: u32 = 0x12 << 16;
const ECE: u32 = 0x40 << 16;
const DONT_FRAGMENT: u32 = 0x4000;

/// The headers of a SYN-ACK, as they are on the wire.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SynAck(pub [u32; WORDS]);

/// The fields of a SYN-ACK.
#[derive(Clone, Copy, Debug)]
pub struct SynAckFields {
    /// Sequence number: the ISN.
    pub sequence: u32,
    /// `TSval`.
    pub tsval: u32,
    /// `TSecr`: the client's `TSval`.
    pub tsecr: u32,
    /// The negotiated options.
    pub options: TcpOptions,
    /// MSS of the host, in bytes.
    pub mss: u16,
    /// Window, in bytes.
    pub window: u16,
    /// Window scale of the host.
    pub window_scale: u8,
    /// The SYN-ACK carries [`Self::cookie`].
    pub issues_cookie: bool,
    /// Fast Open cookie.
    pub cookie: Cookie,
    /// The cookie's option has the experimental form, kind 254.
    pub experimental: bool,
    /// TTL, or hop limit.
    pub hop_limit: u8,
    /// TOS, or traffic class.
    pub traffic_class: u8,
}

/// Appends words to the options.
struct OptionWriter<'a> {
    words: &'a mut [u32; WORDS],
    count: usize,
    sum: u64,
}

impl OptionWriter<'_> {
    /// Puts a word, given in the host's order.
    #[inline(always)]
    fn put(&mut self, word: u32) {
        self.put_raw(word.to_be());
    }

    /// Puts a word as it is on the wire.
    #[inline(always)]
    fn put_raw(&mut self, word: u32) {
        self.words[(OPTIONS + self.count) % WORDS] = word;
        self.sum += u64::from(word);
        self.count = (self.count + 1) % (WORDS - OPTIONS);
    }
}

impl SynAck {
    /// Nothing yet.
    pub const EMPTY: Self = Self([0; WORDS]);

    /// Writes the answer to `syn`. Gives the length of its TCP header, in bytes.
    #[inline(always)]
    pub fn write(&mut self, syn: &Syn, fields: &SynAckFields) -> usize {
        let mut options = OptionWriter {
            words: &mut self.0,
            count: 0,
            sum: 0,
        };
        write_options(&mut options, fields);
        let (count, mut sum) = (options.count, options.sum);
        let header_len = tcp::MIN_HEADER_LEN + 4 * count;
        let ecn = if fields.options.ecn() { ECE } else { 0 };
        let offset = (header_len as u32 / 4) << 28;
        let header = [
            syn.ports.rotate_right(16).to_le(),
            fields.sequence.to_be(),
            syn.sequence.wrapping_add(1).to_be(),
            (offset | SYN_ACK | ecn | u32::from(fields.window)).to_be(),
        ];
        for (index, word) in header.into_iter().enumerate() {
            self.0[NETWORK + index] = word;
            sum += u64::from(word);
        }
        let rest = u32::from(tcp::PROTOCOL) + header_len as u32;
        sum += u64::from(rest.to_be());
        sum += match &syn.addresses {
            Addresses::V4(word) => self.write_v4(*word, header_len, fields),
            Addresses::V6(words) => self.write_v6(words, header_len, fields),
        };
        self.0[OPTIONS - 1] = checksum_word(sum, false);
        header_len
    }

    /// Writes the IPv4 header (RFC 791) and gives the sum of its addresses.
    #[inline(always)]
    fn write_v4(&mut self, addresses: u64, tcp_len: usize, fields: &SynAckFields) -> u64 {
        let first = NETWORK - V4_WORDS;
        let total = (4 * V4_WORDS + tcp_len) as u32;
        let (source, destination) = ((addresses >> 32) as u32, addresses as u32);
        let class = u32::from(fields.traffic_class) << 16;
        let start = [(0x45 << 24 | class | total).to_be(), DONT_FRAGMENT.to_be()];
        let ttl = (u32::from(fields.hop_limit) << 24 | u32::from(tcp::PROTOCOL) << 16).to_be();
        let addresses = u64::from(source) + u64::from(destination);
        let sum = u64::from(start[0]) + u64::from(start[1]) + u64::from(ttl) + addresses;
        self.0[first] = start[0];
        self.0[first + 1] = start[1];
        self.0[first + 2] = ttl | checksum_word(sum, true);
        self.0[first + 3] = source.to_le();
        self.0[first + 4] = destination.to_le();
        addresses
    }

    /// Writes the IPv6 header (RFC 8200) and gives the sum of its addresses.
    #[inline(always)]
    fn write_v6(&mut self, [a, b, c, d]: &[u64; 4], tcp_len: usize, fields: &SynAckFields) -> u64 {
        self.0[0] = (6_u32 << 28 | u32::from(fields.traffic_class) << 20).to_be();
        let next = u32::from(tcp::PROTOCOL) << 8;
        self.0[1] = ((tcp_len as u32) << 16 | next | u32::from(fields.hop_limit)).to_be();
        let mut sum = 0;
        for (index, word) in [*c, *d, *a, *b].into_iter().enumerate() {
            let (low, high) = (word as u32, (word >> 32) as u32);
            self.0[2 + 2 * index] = low.to_le();
            self.0[3 + 2 * index] = high.to_le();
            sum += u64::from(low) + u64::from(high);
        }
        sum
    }

    /// The headers of a segment of that family and that length of TCP header, as bytes on the wire.
    pub fn bytes(&self, v4: bool, tcp_len: usize) -> impl Iterator<Item = u8> {
        let first = if v4 { NETWORK - V4_WORDS } else { 0 };
        let len = 4 * (NETWORK - first) + tcp_len;
        let words = self.0.into_iter().skip(first);
        words.flat_map(u32::to_ne_bytes).take(len)
    }

    /// Offset of an IPv4 header in the words, in bytes. An IPv6 header stands at their first.
    pub const V4: usize = 4 * (NETWORK - V4_WORDS);
    /// Offset of the TCP header.
    pub const TCP: usize = 4 * NETWORK;
}

#[inline(always)]
fn write_options(writer: &mut OptionWriter<'_>, fields: &SynAckFields) {
    const SACK: u32 = 0x0402_0000;
    const NO_OPERATIONS: u32 = 0x0101_0000;
    let options = fields.options;
    writer.put(0x0204_0000 | u32::from(fields.mss));
    let sack = if options.sack() { SACK } else { NO_OPERATIONS };
    if options.timestamps() {
        writer.put(sack | 0x080a);
        writer.put(fields.tsval);
        writer.put(fields.tsecr);
    }
    if options.sack() && !options.timestamps() {
        writer.put(NO_OPERATIONS | SACK >> 16);
    }
    if options.window_scale().is_some() {
        writer.put(0x0103_0300 | u32::from(fields.window_scale));
    }
    if fields.issues_cookie {
        let [low, high] = [
            fields.cookie.word() as u32,
            (fields.cookie.word() >> 32) as u32,
        ];
        if fields.experimental {
            writer.put(0xfe0c_f989);
            writer.put_raw(low.to_le());
            writer.put_raw(high.to_le());
        } else {
            // Kind and size before the cookie, and two no-operations behind it.
            writer.put(0x220a_0000 | u32::from_be(low.to_le()) >> 16);
            writer.put(u32::from_be(low.to_le()) << 16 | u32::from_be(high.to_le()) >> 16);
            writer.put(u32::from_be(high.to_le()) << 16 | NO_OPERATIONS >> 16);
        }
    }
}

/// The checksum over words of that sum, all as they are on the wire, in the word whose first half it is, or whose
/// second half.
#[inline(always)]
const fn checksum_word(sum: u64, second: bool) -> u32 {
    let [a, b] = (!checksum::fold_words(sum)).to_ne_bytes();
    u32::from_ne_bytes(if second { [0, 0, a, b] } else { [a, b, 0, 0] })
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{
        options::{
            fast_open::{self, FastOpen, PackedOptions},
            negotiated,
        },
        syn::Layout,
    };

    /// The sum of all 16-bit words, which is 0xffff where a checksum among them is right.
    fn sum(bytes: impl IntoIterator<Item = u8>) -> u16 {
        let bytes: Vec<u8> = bytes.into_iter().collect();
        let words = bytes
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(word[1]));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        sum as u16
    }

    proptest! {
        #[test]
        fn checksums_are_right_and_options_are_read_back(
            v4: bool, words: [u64; 4], ports: u32, sequence: u32, bits: u32, timestamps: bool, issues: bool,
            experimental: bool, cookie: [u8; 8], clock: u32,
        ) {
            let addresses = if v4 { Addresses::V4(words[0]) } else { Addresses::V6(words) };
            let syn = Syn {
                addresses, ports, sequence, data_len: 0, options: PackedOptions::NONE, layout: Layout::NONE,
            };
            let agreed = TcpOptions::from_bits(bits, timestamps);
            let cookie = Cookie::from_bytes(cookie);
            let fields = SynAckFields {
                sequence: !sequence, tsval: clock, tsecr: 7, options: agreed, mss: 1440, window: 65_000, window_scale: 9,
                issues_cookie: issues, cookie, experimental, hop_limit: 128, traffic_class: 0xb8,
            };
            let mut syn_ack = SynAck::EMPTY;
            let len = syn_ack.write(&syn, &fields);
            let bytes: Vec<u8> = syn_ack.bytes(v4, len).collect();
            let ip = if v4 { 20 } else { 40 };
            let (network, segment) = bytes.split_at(ip);
            prop_assert_eq!(segment.len(), len);
            prop_assert!(len <= 60);
            if v4 {
                prop_assert_eq!(sum(network.iter().copied()), 0xffff);
            }
            let pseudo = if v4 { &network[12..20] } else { &network[8..40] };
            let rest = [0, tcp::PROTOCOL, 0, len as u8];
            let all = pseudo.iter().chain(&rest).chain(segment).copied();
            prop_assert_eq!(sum(all), 0xffff);
            prop_assert_eq!(&segment[4..8], &(!sequence).to_be_bytes());
            prop_assert_eq!(&segment[8..12], &sequence.wrapping_add(1).to_be_bytes());
            let padded = [segment, &[0; 16]].concat();
            let (read, stamps) = negotiated::parse(padded.as_slice(), 0, len);
            prop_assert_eq!(read.mss(), 1440);
            prop_assert_eq!(read.sack(), agreed.sack());
            prop_assert_eq!(read.timestamps(), timestamps);
            prop_assert_eq!(read.window_scale(), agreed.window_scale().map(|_| 9));
            if timestamps {
                prop_assert_eq!((stamps.tsval, stamps.tsecr), (clock, 7));
            }
            let (options, _) = fast_open::parse(padded.as_slice(), 20, len - 20, false);
            prop_assert_eq!(options.fast_open, if issues { FastOpen::Cookie(cookie) } else { FastOpen::Absent });
            prop_assert_eq!(options.experimental, issues && experimental);
            prop_assert!(!options.malformed);
        }
    }
}
