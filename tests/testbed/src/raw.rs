//! Clients that exist only as frames: any SYN can be sent, and the answer be caught.
//!
//! Such a client has an address and an Ethernet address that no host has. The client's host passes its
//! answers over, so no reset follows a SYN-ACK that nobody asked for; a packet socket sees them.

use std::{
    net::{IpAddr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use etherparse::{NetSlice, SlicedPacket, TcpSlice, TransportSlice};

use crate::{
    link::{Frames, LinkSocket},
    packet::{self, Segment, flag},
    poll::Deadline,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair},
};

/// How long an answer may take. Longer than a listener takes, shorter than it takes to try again.
const LIMIT: Duration = Duration::from_millis(500);

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
        let option = match kind {
            254 => packet::experimental(cookie),
            _ => packet::fast_open(cookie),
        };
        Self {
            options: option.into(),
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
    /// The port of the last SYN.
    port: u16,
    /// Where its numbers begin; a connection that is opened anew has higher ones.
    sequence: u32,
    /// How long it waits for an answer.
    pub patience: Duration,
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
            port: 20_000,
            sequence: 0x1000_0000,
            patience: LIMIT,
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
        self.port += 1;
        self.send_again(server, syn)
    }

    /// Sends `syn` from the port of the last one, with the same sequence number.
    ///
    /// # Errors
    ///
    /// As [`RawClient::send`].
    pub fn send_again(&self, server: SocketAddr, syn: &RawSyn) -> Result<Answer> {
        self.say(server, flag::SYN, (self.sequence, 0), syn)?;
        let answer = self.receive(server, |tcp| answer(tcp, self.sequence))?;
        Ok(answer.unwrap_or(Answer::Silence))
    }

    /// As [`RawClient::send_again`], where there may be no answer: it is taken to be there once a barrier has come back.
    ///
    /// # Errors
    ///
    /// As [`RawClient::send`] and [`Pair::barrier`].
    pub fn send_again_in(&self, pair: &Pair, server: SocketAddr, syn: &RawSyn) -> Result<Answer> {
        self.say(server, flag::SYN, (self.sequence, 0), syn)?;
        pair.barrier()?;
        let answer = |tcp: &TcpSlice<'_>| answer(tcp, self.sequence);
        let answer = self.receive_before(Deadline::after(Duration::ZERO), server, answer)?;
        Ok(answer.unwrap_or(Answer::Silence))
    }

    /// As [`RawClient::send_again_in`], from a port that was not used yet.
    ///
    /// # Errors
    ///
    /// As [`RawClient::send_again_in`].
    pub fn send_in(&mut self, pair: &Pair, server: SocketAddr, syn: &RawSyn) -> Result<Answer> {
        self.port += 1;
        self.send_again_in(pair, server, syn)
    }

    /// Resets the connection of the last SYN, of whose data the server took `acked` bytes.
    ///
    /// # Errors
    ///
    /// As [`RawClient::send`].
    pub fn reset(&self, server: SocketAddr, acked: u32) -> Result<()> {
        let sequence = self.sequence + 1 + acked;
        self.say(server, flag::RST, (sequence, 0), &RawSyn::plain(&[]))
    }

    /// Opens a connection with `opening`, a SYN without data, that the server closes first, by `close`: its
    /// end is in `TIME_WAIT` then, for [`RawClient::send_again`]. Where this end is not `closed`, too, it
    /// waits for that.
    ///
    /// # Errors
    ///
    /// Where the server does not play its part.
    pub fn time_wait(
        &mut self,
        server: SocketAddr,
        opening: &RawSyn,
        closed: bool,
        close: impl FnOnce() -> Result<()>,
    ) -> Result<()> {
        self.port += 1;
        let nothing = RawSyn::plain(&[]);
        let say = |flags, numbers, body| self.say(server, flags, numbers, body);
        let next = |wanted: fn(&TcpSlice<'_>) -> bool| {
            let sequence = |tcp: &TcpSlice<'_>| wanted(tcp).then(|| tcp.sequence_number());
            self.receive(server, sequence)?.context("no segment came")
        };
        let first = self.sequence;
        say(flag::SYN, (first, 0), opening)?;
        let theirs = next(|tcp| tcp.syn() && tcp.ack())?.wrapping_add(1);
        say(flag::ACK, (first + 1, theirs), &nothing)?;
        close()?;
        let end = next(|tcp| tcp.fin() && tcp.ack())?.wrapping_add(1);
        if closed {
            say(flag::FIN | flag::ACK, (first + 1, end), &nothing)?;
            next(|tcp| tcp.ack() && !tcp.fin())?;
        } else {
            say(flag::ACK, (first + 1, end), &nothing)?;
        }
        Ok(())
    }

    /// Has the sequence numbers of the next SYNs go on by so much.
    pub const fn advance(&mut self, by: u32) {
        self.sequence = self.sequence.wrapping_add(by);
    }

    /// The port of the last SYN.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// The sequence number of its SYNs.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Has the next SYN come from a port that was not used yet.
    pub const fn next_port(&mut self) {
        self.port += 1;
    }

    /// The first thing in what the server sends to the port of the last SYN that is `wanted`.
    ///
    /// # Errors
    ///
    /// Where frames cannot be received.
    pub fn receive<T>(
        &self,
        server: SocketAddr,
        wanted: impl Fn(&TcpSlice<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.receive_before(Deadline::after(self.patience), server, wanted)
    }

    fn receive_before<T>(
        &self,
        deadline: Deadline,
        server: SocketAddr,
        wanted: impl Fn(&TcpSlice<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        loop {
            let Some(frame) = self.link.receive_before(deadline)? else {
                return Ok(None);
            };
            let Ok(packet) = SlicedPacket::from_ethernet(&frame) else {
                continue;
            };
            // Another client may have the same port.
            if destination(&packet) == Some(self.address)
                && let Some(TransportSlice::Tcp(tcp)) = packet.transport
                && (tcp.source_port(), tcp.destination_port()) == (server.port(), self.port)
                && let Some(found) = wanted(&tcp)
            {
                return Ok(Some(found));
            }
        }
    }

    fn say(
        &self,
        server: SocketAddr,
        flags: u8,
        (sequence, acknowledges): (u32, u32),
        body: &RawSyn,
    ) -> Result<()> {
        let segment = Segment::new(SocketAddr::new(self.address, self.port), server, flags)
            .numbers(sequence, acknowledges)
            .options(&body.options)
            .data(&body.data);
        self.transmit(&segment)
    }

    /// Sends any segment.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn transmit(&self, segment: &Segment) -> Result<()> {
        let sent = self.link.send(&segment.frame());
        sent.context("cannot send a segment")
    }
}

/// Whom a packet is for.
fn destination(packet: &SlicedPacket<'_>) -> Option<IpAddr> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(packet) => Some(packet.header().destination_addr().into()),
        NetSlice::Ipv6(packet) => Some(packet.header().destination_addr().into()),
        NetSlice::Arp(_) => None,
    }
}

/// What a segment answers to the SYN with that sequence number.
fn answer(tcp: &TcpSlice<'_>, sequence: u32) -> Option<Answer> {
    if tcp.rst() {
        return Some(Answer::Reset);
    }
    (tcp.syn() && tcp.ack()).then(|| Answer::SynAck {
        acked: tcp.acknowledgment_number().wrapping_sub(sequence + 1),
        cookie: cookie(tcp),
    })
}

/// The Fast Open option of a SYN-ACK: its kind and its cookie.
fn cookie(tcp: &TcpSlice<'_>) -> Option<(u8, Vec<u8>)> {
    let mut options = tcp.options();
    while let [kind, rest @ ..] = options {
        let size = match kind {
            0 => return None,
            1 => 1,
            _ => usize::from(*rest.first()?),
        };
        match (kind, options.get(..size)?) {
            (34, [_, _, cookie @ ..]) => return Some((34, cookie.to_owned())),
            (254, [_, _, 0xf9, 0x89, cookie @ ..]) => return Some((254, cookie.to_owned())),
            _ => options = &options[size.max(1)..],
        }
    }
    None
}
