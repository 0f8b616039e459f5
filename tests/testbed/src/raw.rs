//! Clients on packet sockets: they send arbitrary SYNs and capture the replies.
//!
//! Such a client has an IP and a MAC address that no host has. The client's kernel ignores replies to it, so no reset
//! follows an unexpected SYN-ACK; the packet socket receives the replies.

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

/// Timeout of a reply: shorter than the SYN-ACK retransmission timeout of one second.
const LIMIT: Duration = Duration::from_millis(500);

/// TCP options and data of a SYN.
#[derive(Clone, Debug)]
pub struct RawSyn {
    /// TCP options: at most 40 bytes, padded with zeros to a multiple of 4.
    pub options: Vec<u8>,
    /// Data after the TCP header.
    pub data: Vec<u8>,
}

impl RawSyn {
    /// A SYN with a Fast Open option of `kind` 34 or 254; an empty `cookie` is a cookie request.
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

    /// A SYN without options.
    pub fn plain(data: &[u8]) -> Self {
        Self {
            options: Vec::new(),
            data: data.to_owned(),
        }
    }
}

/// Reply to a SYN.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Answer {
    /// A SYN-ACK.
    SynAck {
        /// Acknowledged bytes of the SYN's data.
        acked: u32,
        /// Kind and cookie of its Fast Open option.
        cookie: Option<(u8, Vec<u8>)>,
    },
    /// A reset.
    Reset,
    /// No reply.
    Silence,
}

/// A client of one address family, on a packet socket.
#[derive(Debug)]
pub struct RawClient {
    link: LinkSocket,
    address: IpAddr,
    /// Source port of the last SYN.
    port: u16,
    /// Initial sequence number; must be higher to reopen a connection in `TIME_WAIT`.
    sequence: u32,
    /// Timeout of a reply.
    pub patience: Duration,
}

impl RawClient {
    /// Creates a client with the address [`Family::spare`] of `number`, and adds it to the server's neighbour table.
    ///
    /// # Errors
    ///
    /// The caller lacks `CAP_NET_RAW`, or `ip` fails.
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

    /// IP address.
    pub const fn address(&self) -> IpAddr {
        self.address
    }

    /// Sends `syn` to `server` from the next port, and waits for the reply.
    ///
    /// The handshake is never completed, so it occupies a slot of the listener's queue for about a minute.
    ///
    /// # Errors
    ///
    /// The frame cannot be sent.
    pub fn send(&mut self, server: SocketAddr, syn: &RawSyn) -> Result<Answer> {
        self.port += 1;
        self.send_again(server, syn)
    }

    /// As [`RawClient::send`], from the port of the last SYN and with its sequence number.
    ///
    /// # Errors
    ///
    /// As [`RawClient::send`].
    pub fn send_again(&self, server: SocketAddr, syn: &RawSyn) -> Result<Answer> {
        self.say(server, flag::SYN, (self.sequence, 0), syn)?;
        let answer = self.receive(server, |tcp| answer(tcp, self.sequence))?;
        Ok(answer.unwrap_or(Answer::Silence))
    }

    /// As [`RawClient::send_again`], but waits for [`Pair::barrier`] instead of a timeout: a missing reply is reported
    /// at once.
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

    /// As [`RawClient::send_again_in`], from the next port.
    ///
    /// # Errors
    ///
    /// As [`RawClient::send_again_in`].
    pub fn send_in(&mut self, pair: &Pair, server: SocketAddr, syn: &RawSyn) -> Result<Answer> {
        self.port += 1;
        self.send_again_in(pair, server, syn)
    }

    /// Resets the connection of the last SYN, of whose data the server acknowledged `acked` bytes.
    ///
    /// # Errors
    ///
    /// As [`RawClient::send`].
    pub fn reset(&self, server: SocketAddr, acked: u32) -> Result<()> {
        let sequence = self.sequence + 1 + acked;
        self.say(server, flag::RST, (sequence, 0), &RawSyn::plain(&[]))
    }

    /// Opens a connection with `opening`, a SYN without data, and has the server close it first by `close`. The
    /// server's end is then in `TIME_WAIT`, or in `FIN_WAIT2` if this end is not `closed`. [`RawClient::send_again`]
    /// reuses the connection's addresses and ports.
    ///
    /// # Errors
    ///
    /// The server does not reply as expected, or `close` fails.
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

    /// Adds `by` to the sequence number of later SYNs.
    pub const fn advance(&mut self, by: u32) {
        self.sequence = self.sequence.wrapping_add(by);
    }

    /// Source port of the last SYN.
    pub const fn port(&self) -> u16 {
        self.port
    }

    /// Sequence number of the next SYN.
    pub const fn sequence(&self) -> u32 {
        self.sequence
    }

    /// Selects the next source port, for [`RawClient::send_again`].
    pub const fn next_port(&mut self) {
        self.port += 1;
    }

    /// Passes segments from `server` to the port of the last SYN to `wanted` until it returns a value; `None` after
    /// [`RawClient::patience`].
    ///
    /// # Errors
    ///
    /// As recv(2) and poll(2).
    pub fn receive<T>(
        &self,
        server: SocketAddr,
        wanted: impl Fn(&TcpSlice<'_>) -> Option<T>,
    ) -> Result<Option<T>> {
        self.receive_before(Deadline::after(self.patience), server, wanted)
    }

    /// Discards what came so far, and what is on its way.
    ///
    /// # Errors
    ///
    /// As [`Pair::barrier`] and [`RawClient::receive`].
    pub fn discard_in(&self, pair: &Pair) -> Result<()> {
        pair.barrier()?;
        while self.link.receive(Duration::ZERO)?.is_some() {}
        Ok(())
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
            // Another client may use the same port.
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

/// Destination address of a packet.
fn destination(packet: &SlicedPacket<'_>) -> Option<IpAddr> {
    match packet.net.as_ref()? {
        NetSlice::Ipv4(packet) => Some(packet.header().destination_addr().into()),
        NetSlice::Ipv6(packet) => Some(packet.header().destination_addr().into()),
        NetSlice::Arp(_) => None,
    }
}

/// The reply to the SYN with this sequence number; `None` if the segment is neither a reset nor a SYN-ACK.
fn answer(tcp: &TcpSlice<'_>, sequence: u32) -> Option<Answer> {
    if tcp.rst() {
        return Some(Answer::Reset);
    }
    (tcp.syn() && tcp.ack()).then(|| Answer::SynAck {
        acked: tcp.acknowledgment_number().wrapping_sub(sequence + 1),
        cookie: cookie(tcp),
    })
}

/// Kind and cookie of a SYN-ACK's Fast Open option.
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
