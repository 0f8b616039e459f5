//! A SYN on its way: the frame that it is sent in.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use anyhow::{Context as _, Result, bail};
use etherparse::PacketBuilder;

use crate::{
    packet::flag,
    veth::{Family, NOBODYS_MAC, SERVER_MAC},
};

const WINDOW: u16 = 64_000;
const HOP_LIMIT: u8 = 64;

/// A SYN that was sent.
pub(super) struct Sent {
    pub(super) client: SocketAddr,
    pub(super) server: SocketAddr,
    pub(super) sequence: u32,
    pub(super) options: Vec<u8>,
}

/// The client of that number.
pub(super) fn client(family: Family, number: u32) -> SocketAddr {
    let [low, high] = [number as u16, (number >> 16) as u16];
    let [a, b] = low.to_be_bytes();
    let address = match family {
        Family::V4 => IpAddr::V4(Ipv4Addr::new(10, 78, a, b)),
        Family::V6 => IpAddr::V6(Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, low)),
    };
    SocketAddr::new(address, 1024 + high)
}

/// The frame of a SYN with more flags, or of another segment from where it came from.
pub(super) fn frame(syn: &Sent, flags: u8, data: &[u8]) -> Result<Vec<u8>> {
    let link = PacketBuilder::ethernet2(NOBODYS_MAC, SERVER_MAC);
    let network = match (syn.client.ip(), syn.server.ip()) {
        (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), HOP_LIMIT),
        (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), HOP_LIMIT),
        (from, to) => bail!("no packet goes from {from} to {to}"),
    };
    let (from, to) = (syn.client.port(), syn.server.port());
    let mut tcp = network.tcp(from, to, syn.sequence, WINDOW);
    for bit in 0..8 {
        tcp = match flags & 1 << bit {
            flag::FIN => tcp.fin(),
            flag::SYN => tcp.syn(),
            flag::RST => tcp.rst(),
            flag::PSH => tcp.psh(),
            flag::ACK => tcp.ack(1),
            flag::URG => tcp.urg(1),
            flag::ECE => tcp.ece(),
            flag::CWR => tcp.cwr(),
            _ => tcp,
        };
    }
    let tcp = tcp.options_raw(&syn.options).context("too many options")?;
    let mut frame = Vec::with_capacity(tcp.size(data.len()));
    tcp.write(&mut frame, data)?;
    Ok(frame)
}
