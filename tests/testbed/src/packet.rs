//! TCP segments as Ethernet frames, Fast Open options and cookies. Built with etherparse and siphasher, so that they
//! share no code with the data path.

use std::{
    hash::Hasher as _,
    net::{IpAddr, SocketAddr},
};

use bytes::{BufMut as _, Bytes, BytesMut};
use etherparse::{
    EtherType, Ethernet2Header, IpFragOffset, IpNumber, Ipv4Header, Ipv6Header, SingleVlanHeader,
    TcpHeader, VlanId,
};
use siphasher::sip::SipHasher24;

use crate::{
    syn_table::{BACKUP, PRIMARY, Row},
    veth::{NOBODYS_MAC, SERVER_MAC},
};

/// TCP flags (RFC 9293, section 3.1).
pub mod flag {
    #![expect(missing_docs, reason = "RFC 9293 defines them")]
    pub const FIN: u8 = 0x01;
    pub const SYN: u8 = 0x02;
    pub const RST: u8 = 0x04;
    pub const PSH: u8 = 0x08;
    pub const ACK: u8 = 0x10;
    pub const URG: u8 = 0x20;
    pub const ECE: u8 = 0x40;
    pub const CWR: u8 = 0x80;
}

/// Minimum length of an Ethernet frame, without FCS.
const MIN_FRAME_LEN: usize = 60;

const HOP_LIMIT: u8 = 64;
const SEQUENCE: u32 = 0x1234_5678;
const WINDOW: u16 = 64_240;
/// Padding byte: not 0, so that a parser that reads padding as options or data produces a wrong result.
const PADDING: u8 = 0x22;

/// Builder of a TCP segment and its frame.
#[derive(Clone, Debug)]
pub struct Segment {
    source: SocketAddr,
    destination: SocketAddr,
    flags: u8,
    sequence: u32,
    acknowledges: u32,
    options: Bytes,
    data: Bytes,
    tags: Vec<EtherType>,
    ip_options: Bytes,
    extensions: Vec<(u8, Bytes)>,
    fragment: Option<(u16, bool)>,
}

impl Segment {
    /// A segment without options or data.
    ///
    /// # Panics
    ///
    /// The addresses differ in family.
    pub fn new(source: SocketAddr, destination: SocketAddr, flags: u8) -> Self {
        assert_eq!(source.is_ipv4(), destination.is_ipv4(), "one family");
        Self {
            source,
            destination,
            flags,
            sequence: SEQUENCE,
            acknowledges: 0,
            options: Bytes::new(),
            data: Bytes::new(),
            tags: Vec::new(),
            ip_options: Bytes::new(),
            extensions: Vec::new(),
            fragment: None,
        }
    }

    /// A SYN without options or data.
    pub fn syn(source: SocketAddr, destination: SocketAddr) -> Self {
        Self::new(source, destination, flag::SYN)
    }

    /// Sets the sequence and acknowledgement numbers.
    #[must_use]
    pub const fn numbers(mut self, sequence: u32, acknowledges: u32) -> Self {
        self.sequence = sequence;
        self.acknowledges = acknowledges;
        self
    }

    /// Sets the TCP options: at most 40 bytes, padded with zeros to a multiple of 4.
    #[must_use]
    pub fn options(mut self, options: &[u8]) -> Self {
        self.options = Bytes::copy_from_slice(options);
        self
    }

    /// Sets the data.
    #[must_use]
    pub fn data(mut self, data: &[u8]) -> Self {
        self.data = Bytes::copy_from_slice(data);
        self
    }

    /// Adds an inner VLAN tag with this `EtherType`, such as 0x8100. The VLAN id is 0 (priority tag), so the kernel
    /// accepts the frame without a VLAN interface.
    #[must_use]
    pub fn vlan(mut self, tag: EtherType) -> Self {
        self.tags.push(tag);
        self
    }

    /// Adds 8 bytes of padding: NOP options in IPv4, a hop-by-hop header in IPv6.
    #[must_use]
    pub fn ip_options(mut self) -> Self {
        if self.source.is_ipv4() {
            self.ip_options = Bytes::from_static(&[1; 8]);
            return self;
        }
        // PadN, 6 bytes after next header and length.
        self.extension(0, &[1, 4, 0, 0, 0, 0])
    }

    /// Sets the IPv4 options: at most ten words.
    #[must_use]
    pub fn ipv4_options(mut self, options: &[u8]) -> Self {
        self.ip_options = Bytes::copy_from_slice(options);
        self
    }

    /// Adds an inner IPv6 extension header: protocol number, and content after next header and length.
    #[must_use]
    pub fn extension(mut self, kind: u8, value: &[u8]) -> Self {
        self.extensions.push((kind, Bytes::copy_from_slice(value)));
        self
    }

    /// Makes it an IPv4 fragment: `offset` in units of 8 bytes, and the more-fragments flag.
    #[must_use]
    pub fn fragment(mut self, offset: u16, more: bool) -> Self {
        self.fragment = Some((offset, more));
        self
    }

    /// The frame, addressed to the server of a [`Pair`](crate::veth::Pair), without padding.
    pub fn frame(&self) -> Bytes {
        let packet = self.packet();
        let ether_type = if self.source.is_ipv4() {
            EtherType::IPV4
        } else {
            EtherType::IPV6
        };
        let mut types = self.tags.iter().copied().chain([ether_type]);
        let mut frame = BytesMut::new();
        let ethernet = Ethernet2Header {
            source: NOBODYS_MAC,
            destination: SERVER_MAC,
            ether_type: types.next().unwrap_or(ether_type),
        };
        frame.put_slice(&ethernet.to_bytes());
        for ether_type in types {
            let tag = SingleVlanHeader {
                vlan_id: VlanId::ZERO,
                ether_type,
                ..SingleVlanHeader::default()
            };
            frame.put_slice(&tag.to_bytes());
        }
        frame.put_slice(&packet);
        frame.freeze()
    }

    /// The frame, padded to 60 bytes.
    pub fn padded_frame(&self) -> Bytes {
        let mut frame = BytesMut::from(self.frame());
        if frame.len() < MIN_FRAME_LEN {
            frame.resize(MIN_FRAME_LEN, PADDING);
        }
        frame.freeze()
    }

    /// The packet, from its IP header on.
    pub fn packet(&self) -> Bytes {
        match (self.source.ip(), self.destination.ip()) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.ipv4(source.octets(), destination.octets())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                self.ipv6(source.octets(), destination.octets())
            }
            _ => unreachable!("`new` rejects different families"),
        }
    }

    fn ipv4(&self, source: [u8; 4], destination: [u8; 4]) -> Bytes {
        let tcp = self.tcp(|tcp, data| tcp.calc_checksum_ipv4_raw(source, destination, data));
        let mut header = Ipv4Header::new(0, HOP_LIMIT, IpNumber::TCP, source, destination)
            .expect("an empty packet fits");
        header.options = (&*self.ip_options).try_into().expect("a few words fit");
        header
            .set_payload_len(tcp.len())
            .expect("the segment fits into a packet");
        if let Some((offset, more)) = self.fragment {
            header.dont_fragment = false;
            header.more_fragments = more;
            header.fragment_offset = IpFragOffset::try_new(offset).expect("13 bits");
        }
        header.header_checksum = header.calc_header_checksum();
        [&header.to_bytes()[..], &tcp].concat().into()
    }

    fn ipv6(&self, source: [u8; 16], destination: [u8; 16]) -> Bytes {
        let tcp = self.tcp(|tcp, data| tcp.calc_checksum_ipv6_raw(source, destination, data));
        let kinds: Vec<u8> = self.extensions.iter().map(|(kind, _)| *kind).collect();
        let kinds = [&kinds[..], &[IpNumber::TCP.0]].concat();
        let mut extensions = BytesMut::new();
        for ((kind, value), next) in self.extensions.iter().zip(&kinds[1..]) {
            // A fragment header has a reserved byte instead of a length.
            let units = if *kind == 44 { 0 } else { value.len() / 8 };
            extensions.put_slice(&[*next, units as u8]);
            extensions.put_slice(value);
        }
        let mut header = Ipv6Header {
            next_header: kinds[0].into(),
            hop_limit: HOP_LIMIT,
            source,
            destination,
            ..Ipv6Header::default()
        };
        header
            .set_payload_length(extensions.len() + tcp.len())
            .expect("the segment fits into a packet");
        [&header.to_bytes()[..], &extensions, &tcp].concat().into()
    }

    /// The TCP segment, with a checksum from `sum`.
    fn tcp<E: std::fmt::Debug>(&self, sum: impl Fn(&TcpHeader, &[u8]) -> Result<u16, E>) -> Bytes {
        let (source, destination) = (self.source.port(), self.destination.port());
        let has = |flag| self.flags & flag != 0;
        let mut header = TcpHeader {
            fin: has(flag::FIN),
            syn: has(flag::SYN),
            rst: has(flag::RST),
            psh: has(flag::PSH),
            ack: has(flag::ACK),
            urg: has(flag::URG),
            ece: has(flag::ECE),
            cwr: has(flag::CWR),
            acknowledgment_number: self.acknowledges,
            ..TcpHeader::new(source, destination, self.sequence, WINDOW)
        };
        header
            .set_options_raw(&self.options)
            .expect("40 bytes of options at most");
        header.checksum = sum(&header, &self.data).expect("the segment fits into a packet");
        [&header.to_bytes()[..], &self.data].concat().into()
    }
}

/// A Fast Open option, kind 34 (RFC 7413); an empty cookie is a cookie request.
///
/// # Panics
///
/// The option is longer than 255 bytes.
pub fn fast_open(cookie: &[u8]) -> Bytes {
    option(34, cookie)
}

/// The experimental Fast Open option: kind 254, magic number 0xf989 (RFC 6994).
///
/// # Panics
///
/// The option is longer than 255 bytes.
pub fn experimental(cookie: &[u8]) -> Bytes {
    option(254, &[&[0xf9, 0x89], cookie].concat())
}

fn option(kind: u8, value: &[u8]) -> Bytes {
    let size = u8::try_from(2 + value.len()).expect("an option's size is one byte");
    [&[kind, size], value].concat().into()
}

/// TCP options of a Linux client's SYN: MSS, SACK permitted, timestamps, window scale, then `fast_open`, padded with
/// NOPs to a multiple of 4.
pub fn linux_options(fast_open: &[u8]) -> Bytes {
    let mut options = BytesMut::from(
        b"\x02\x04\x05\xb4\x04\x02\x08\x0a\x5c\x3f\x10\x9a\0\0\0\0\x01\x03\x03\x07".as_slice(),
    );
    options.put_slice(fast_open);
    options.resize(options.len().next_multiple_of(4), 1);
    options.freeze()
}

/// The Internet checksum (RFC 1071) over `bytes`, an odd one padded with zero, and the sum `more`.
pub fn checksum(bytes: &[u8], more: u32) -> u16 {
    let halves = bytes.chunks(2).map(|half| {
        let low = half.get(1).copied().unwrap_or(0);
        u32::from(u16::from_be_bytes([half[0], low]))
    });
    let mut sum = halves.sum::<u32>() + more;
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// The cookie of `key` for a segment from `source` to `destination`: SipHash-2-4 over both addresses
/// (`__tcp_fastopen_cookie_gen_cipher`).
pub fn cookie(key: &[u8; 16], source: IpAddr, destination: IpAddr) -> [u8; 8] {
    let mut hasher = SipHasher24::new_with_key(key);
    for address in [source, destination] {
        match address {
            IpAddr::V4(address) => hasher.write(&address.octets()),
            IpAddr::V6(address) => hasher.write(&address.octets()),
        }
    }
    hasher.finish().to_le_bytes()
}

/// The options of a row, with these cookies in place of [`PRIMARY`] and [`BACKUP`].
pub fn row_options(row: &Row, primary: &[u8; 8], backup: &[u8; 8]) -> Bytes {
    let byte = |own: &u8| {
        let cookie_byte = |stand_in: [u8; 8], cookie: &[u8; 8]| {
            let index = stand_in.iter().position(|byte| byte == own)?;
            Some(cookie[index])
        };
        let found = cookie_byte(PRIMARY, primary).or_else(|| cookie_byte(BACKUP, backup));
        found.unwrap_or(*own)
    };
    row.options.iter().map(byte).collect()
}

#[cfg(test)]
mod tests {
    use etherparse::{SlicedPacket, TransportSlice};

    use super::*;

    /// Cookies that Linux 6.18 issued with the key `a1a1a1a1-b2b2b2b2-c3c3c3c3-d4d4d4d4`.
    #[test]
    fn cookies_are_linuxs() {
        let key = [0xa1a1_a1a1, 0xb2b2_b2b2, 0xc3c3_c3c3, 0xd4d4_d4d4].map(u32::to_le_bytes);
        let key: [u8; 16] = key.concat().try_into().unwrap();
        for (source, destination, expected) in [
            ("192.0.2.1", "192.168.0.1", 0x3021_b9d8_8901_7eeb_u64),
            (
                "fd3d:fa7b:d17d::1",
                "fd3d:a0b:17d6::1",
                0xc1d1_e974_2a47_a9bc,
            ),
        ] {
            let (source, destination) = (source.parse().unwrap(), destination.parse().unwrap());
            let cookie = cookie(&key, source, destination);
            assert_eq!(cookie, expected.to_be_bytes());
        }
    }

    #[test]
    fn frames_read_back_as_they_were_meant() {
        for (source, destination) in [
            ("192.0.2.1:2000", "192.168.0.1:443"),
            ("[fd3d::1]:2000", "[fd3d::2]:443"),
        ] {
            let segment = Segment::syn(source.parse().unwrap(), destination.parse().unwrap())
                .options(&linux_options(&fast_open(b"biscuits")))
                .data(b"crumbs");
            for segment in [segment.clone(), segment.ip_options()] {
                let frame = segment.padded_frame();
                let packet = SlicedPacket::from_ethernet(&frame).unwrap();
                let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
                    panic!("no TCP in {frame:?}");
                };
                assert!(tcp.syn() && !tcp.ack());
                assert_eq!(tcp.destination_port(), 443);
                assert_eq!(tcp.options(), &segment.options);
                assert_eq!(tcp.payload(), b"crumbs");
            }
        }
    }
}
