//! Clients that exist only as frames: any SYN can be sent, and the answer be caught.
//!
//! Such a client has an address and an Ethernet address that no host has. The client's host passes its
//! answers over, so no reset follows a SYN-ACK that nobody asked for; a packet socket sees them.

use std::{
    net::{IpAddr, SocketAddr},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use etherparse::{PacketBuilder, SlicedPacket, TcpSlice, TransportSlice};

use crate::{
    link::{Frames, LinkSocket},
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, SERVER_MAC},
};

/// How long an answer may take. Longer than a listener takes, shorter than it takes to try again.
const LIMIT: Duration = Duration::from_millis(500);

const SEQUENCE: u32 = 0x1000_0000;
const WINDOW: u16 = 64_000;
const HOP_LIMIT: u8 = 64;

/// A SYN, from the parts that matter to Fast Open.
#[derive(Clone, Debug)]
pub struct RawSyn {
    /// The TCP options; at most 40 bytes, padded to a multiple of 4.
    pub options: Vec<u8>,
    /// The data behind the header.
    pub data: Vec<u8>,
}

impl RawSyn {
    /// A SYN with a Fast Open option of `kind` 34 or 254 that holds `cookie`, empty for a request.
    pub fn fast_open(kind: u8, cookie: &[u8], data: &[u8]) -> Self {
        let magic: &[u8] = if kind == 254 { &[0xf9, 0x89] } else { &[] };
        let size = 2 + magic.len() + cookie.len();
        let options = [&[kind, size as u8], magic, cookie].concat();
        Self {
            options,
            data: data.to_owned(),
        }
    }

    /// An ordinary SYN.
    pub fn plain(data: &[u8]) -> Self {
        Self {
            options: Vec::new(),
            data: data.to_owned(),
        }
    }
}

/// How a listener answered a SYN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// With a SYN-ACK.
    SynAck {
        /// How many bytes of the SYN's data it acknowledges.
        acked: u32,
        /// The kind of its Fast Open option, and the cookie in it.
        cookie: Option<(u8, Vec<u8>)>,
    },
    /// With a reset.
    Reset,
    /// Not at all.
    Silence,
}

/// A client of one address family, made of frames.
#[derive(Debug)]
pub struct RawClient {
    link: LinkSocket,
    address: IpAddr,
    next_port: u16,
}

impl RawClient {
    /// A client with the spare address of that `number`; see [`Family::spare`].
    ///
    /// # Errors
    ///
    /// Where the caller may not send frames, or `ip` fails.
    pub fn new(pair: &Pair, family: Family, number: u8) -> Result<Self> {
        let address = family.spare(number);
        pair.set_neighbour(address, NOBODYS_MAC)?;
        Ok(Self {
            link: LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::All)?,
            address,
            next_port: 20_000,
        })
    }

    /// Its address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Sends `syn` to `server` from a port that was not used yet, and waits for the answer.
    ///
    /// The handshake is never ended, so the listener keeps a slot for it for about a minute.
    ///
    /// # Errors
    ///
    /// Where the frame cannot be made or sent.
    pub fn send(&mut self, server: SocketAddr, syn: &RawSyn) -> Result<Answer> {
        let port = self.next_port;
        self.next_port += 1;
        let frame = self.frame(port, server, syn)?;
        self.link.send(&frame).context("cannot send the SYN")?;
        let deadline = Instant::now() + LIMIT;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(frame) = self.link.receive(left)? else {
                return Ok(Answer::Silence);
            };
            if let Some(answer) = answer(&frame, server.port(), port) {
                return Ok(answer);
            }
        }
    }

    fn frame(&self, port: u16, server: SocketAddr, syn: &RawSyn) -> Result<Vec<u8>> {
        let link = PacketBuilder::ethernet2(NOBODYS_MAC, SERVER_MAC);
        let network = match (self.address, server.ip()) {
            (IpAddr::V4(from), IpAddr::V4(to)) => link.ipv4(from.octets(), to.octets(), HOP_LIMIT),
            (IpAddr::V6(from), IpAddr::V6(to)) => link.ipv6(from.octets(), to.octets(), HOP_LIMIT),
            (from, to) => bail!("no packet goes from {from} to {to}"),
        };
        let segment = network
            .tcp(port, server.port(), SEQUENCE, WINDOW)
            .syn()
            .options_raw(&syn.options)?;
        let mut frame = Vec::with_capacity(segment.size(syn.data.len()));
        segment.write(&mut frame, &syn.data)?;
        Ok(frame)
    }
}

/// What `frame` says to the client's `port`, if it comes from the server's.
fn answer(frame: &[u8], server_port: u16, port: u16) -> Option<Answer> {
    let packet = SlicedPacket::from_ethernet(frame).ok()?;
    let Some(TransportSlice::Tcp(tcp)) = packet.transport else {
        return None;
    };
    if tcp.source_port() != server_port || tcp.destination_port() != port {
        return None;
    }
    if tcp.rst() {
        return Some(Answer::Reset);
    }
    (tcp.syn() && tcp.ack()).then(|| Answer::SynAck {
        acked: tcp.acknowledgment_number().wrapping_sub(SEQUENCE + 1),
        cookie: cookie(&tcp),
    })
}

/// The Fast Open option of a SYN-ACK: its kind and its cookie.
fn cookie(tcp: &TcpSlice<'_>) -> Option<(u8, Vec<u8>)> {
    let mut options = tcp.options();
    while let [kind, rest @ ..] = options {
        let (size, body) = match (kind, rest) {
            (0, _) => return None,
            (1, _) => (1, None),
            (_, [size, ..]) => (usize::from(*size), options.get(2..usize::from(*size))),
            _ => return None,
        };
        match (kind, body?) {
            (34, cookie) => return Some((34, cookie.to_owned())),
            (254, [0xf9, 0x89, cookie @ ..]) => return Some((254, cookie.to_owned())),
            _ => options = options.get(size..)?,
        }
    }
    None
}
