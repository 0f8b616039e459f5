//! Sent SYNs and their frames.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use bytes::Bytes;

use crate::{packet::Segment, veth::Family};

/// A SYN, as sent.
pub(super) struct Sent {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) sequence: u32,
    pub(super) options: Vec<u8>,
}

/// Address and port of the client with this number.
pub(super) fn client(family: Family, number: u32) -> SocketAddr {
    let [low, high] = [number as u16, (number >> 16) as u16];
    let [a, b] = low.to_be_bytes();
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 78, a, b)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, low)),
    };
    SocketAddr::new(address, 1024 + high)
}

/// A frame with the addresses, sequence number and options of `syn`.
pub(super) fn frame(syn: &Sent, flags: u8, data: &[u8]) -> Bytes {
    Segment::new(syn.client, syn.server, flags)
        .numbers(syn.sequence, 1)
        .options(&syn.options)
        .data(data)
        .frame()
}
