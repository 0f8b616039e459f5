//! Sends SYNs from ports of their own, and hears what comes back: answers of the server, and ICMP messages of routers.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use super::segment::{Answer, ProbeSyn, answer, quoted_header};
use crate::kernel::{client_socket::ReservedPort, raw_socket::RawSocket};

/// The distance between the sequence numbers of two SYNs.
const STEP: u32 = 0x0100_0000;

/// The raw sockets of a probe.
pub(super) struct Prober {
    tcp: RawSocket,
    icmp: RawSocket,
    from: IpAddr,
    to: SocketAddr,
    sent: u32,
    sequence: u32,
}

/// The port and the sequence number of a SYN, by which answers are known. The port is free again when this is gone.
pub(super) struct Way {
    port: ReservedPort,
    pub(super) sequence: u32,
}

impl Way {
    pub(super) const fn port(&self) -> u16 {
        self.port.port
    }
}

impl Prober {
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`.
    pub(super) fn new(from: IpAddr, to: SocketAddr) -> io::Result<Self> {
        Ok(Self {
            tcp: RawSocket::tcp(from, to.ip())?,
            icmp: RawSocket::icmp(from)?,
            from,
            to,
            sent: 0,
            sequence: getrandom::u32().map_err(io::Error::other)?,
        })
    }

    /// SYNs that were sent.
    pub(super) const fn sent(&self) -> u32 {
        self.sent
    }

    /// The server's port.
    pub(super) const fn port(&self) -> u16 {
        self.to.port()
    }

    /// A port that nobody uses, and a sequence number.
    ///
    /// # Errors
    ///
    /// As bind(2).
    pub(super) fn reserve(&mut self) -> io::Result<Way> {
        self.sequence = self.sequence.wrapping_add(STEP);
        Ok(Way {
            port: ReservedPort::take(self.from)?,
            sequence: self.sequence,
        })
    }

    /// Sends a SYN; with `hop_limit` only so far.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub(super) fn send(
        &mut self,
        syn: &ProbeSyn<'_>,
        way: &Way,
        hop_limit: Option<u8>,
    ) -> io::Result<()> {
        let from = SocketAddr::new(self.from, way.port());
        let segment = syn.segment(from, self.to, way.sequence);
        self.tcp.send(&segment, hop_limit)?;
        self.sent += 1;
        Ok(())
    }

    /// The server's answer to a SYN; `None` if none came until then.
    ///
    /// # Errors
    ///
    /// As recv(2).
    pub(super) fn hear(&self, way: &Way, until: Instant) -> io::Result<Option<Answer>> {
        while let Some(segment) = self.next_segment(until)? {
            let answer = answer(&segment, self.port(), way.port(), way.sequence);
            if answer.is_some() || Instant::now() >= until {
                return Ok(answer);
            }
        }
        Ok(None)
    }

    /// The next segment from the server.
    ///
    /// # Errors
    ///
    /// As recv(2).
    pub(super) fn next_segment(&self, until: Instant) -> io::Result<Option<Vec<u8>>> {
        let received = self.tcp.receive(until)?;
        Ok(received.map(|(segment, _)| segment))
    }

    /// The next ICMP message about a segment: the TCP header that it quotes, and who sent it.
    ///
    /// # Errors
    ///
    /// As recv(2).
    pub(super) fn next_quote(&self, until: Instant) -> io::Result<Option<(Vec<u8>, IpAddr)>> {
        while let Some((message, router)) = self.icmp.receive(until)? {
            if let Some(header) = quoted_header(&message, self.from.is_ipv4()) {
                return Ok(Some((header.to_vec(), router)));
            }
            if Instant::now() >= until {
                break;
            }
        }
        Ok(None)
    }
}
