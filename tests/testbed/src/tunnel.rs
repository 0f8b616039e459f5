//! Packets in tunnels, as frames. Built with etherparse, so that they share no code with the data path.

use std::net::IpAddr;

use etherparse::{EtherType, Ethernet2Header, IpNumber, Ipv4Header, Ipv6Header, UdpHeader};

use crate::veth::{NOBODYS_MAC, SERVER_MAC};

const IPIP: u8 = 4;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const HOP_LIMIT: u8 = 64;

/// A kind of tunnel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tunnel {
    /// IP in IP.
    Ipip,
    /// GRE without options.
    Gre,
    /// GRE with a checksum field, a key and a sequence number.
    LongGre,
    /// IP in UDP to this port.
    Fou(u16),
    /// GUE, variant 0, with this many words of optional fields.
    Gue(u16, u8),
    /// GUE, variant 1: IP itself.
    DirectGue(u16),
}

impl Tunnel {
    /// Protocol of the outer packet, and the bytes in front of the inner one.
    fn front(self, inner: &[u8]) -> (u8, Vec<u8>) {
        let is_v4 = inner[0] >> 4 == 4;
        let protocol = if is_v4 { IPIP } else { IPV6 };
        let ether_type: [u8; 2] = if is_v4 { [0x08, 0] } else { [0x86, 0xdd] };
        let udp = |port: u16, header: &[u8]| {
            let len = header.len() + inner.len();
            let udp = UdpHeader::without_ipv4_checksum(40_000, port, len).expect("it is short");
            (IpNumber::UDP.0, [&udp.to_bytes()[..], header].concat())
        };
        match self {
            Self::Ipip => (protocol, Vec::new()),
            Self::Gre => (GRE, [[0, 0], ether_type].concat()),
            Self::LongGre => {
                let fields = [0xb0, 0, ether_type[0], ether_type[1]];
                (GRE, [&fields[..], &[7; 12]].concat())
            }
            Self::Fou(port) | Self::DirectGue(port) => udp(port, &[]),
            Self::Gue(port, words) => {
                let optional = vec![9; 4 * usize::from(words)];
                udp(port, &[&[words, protocol, 0, 0], &optional[..]].concat())
            }
        }
    }

    /// The frame with the packet `inner` in it, between these outer addresses.
    ///
    /// # Panics
    ///
    /// The addresses differ in family.
    pub fn frame(self, source: IpAddr, destination: IpAddr, inner: &[u8]) -> Vec<u8> {
        let (protocol, front) = self.front(inner);
        let len = front.len() + inner.len();
        let (ether_type, header) = match (source, destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                let [source, destination] = [source, destination].map(|it| it.octets());
                let mut header =
                    Ipv4Header::new(len as u16, HOP_LIMIT, protocol.into(), source, destination)
                        .expect("it is short");
                header.header_checksum = header.calc_header_checksum();
                (EtherType::IPV4, header.to_bytes().to_vec())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    next_header: protocol.into(),
                    payload_length: len as u16,
                    hop_limit: HOP_LIMIT,
                    source: source.octets(),
                    destination: destination.octets(),
                    ..Ipv6Header::default()
                };
                (EtherType::IPV6, header.to_bytes().to_vec())
            }
            _ => panic!("{source} and {destination} are of two families"),
        };
        let ethernet = Ethernet2Header {
            source: NOBODYS_MAC,
            destination: SERVER_MAC,
            ether_type,
        };
        [&ethernet.to_bytes()[..], &header, &front, inner].concat()
    }
}
