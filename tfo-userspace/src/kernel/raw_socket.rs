//! Raw sockets: TCP segments and ICMP messages. They take `CAP_NET_RAW`.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::OwnedFd,
    time::Instant,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, Protocol, RecvFlags, SendFlags, SocketFlags, SocketType, bind, connect,
        ipproto, recvfrom, send, socket_with, sockopt,
    },
};

/// Bytes of the longest packet that is read.
const LONGEST: usize = 2048;
/// The kernel's hop limit where nothing else is set.
const HOP_LIMIT: u8 = 64;

/// A raw socket of one protocol.
#[derive(Debug)]
pub struct RawSocket {
    socket: OwnedFd,
    is_v4: bool,
}

impl RawSocket {
    /// TCP segments between `from` and `to`.
    ///
    /// # Errors
    ///
    /// `PermissionDenied` without `CAP_NET_RAW`.
    pub fn tcp(from: IpAddr, to: IpAddr) -> io::Result<Self> {
        let raw = Self::new(from, ipproto::TCP)?;
        connect(&raw.socket, &SocketAddr::new(to, 0))?;
        Ok(raw)
    }

    /// ICMP messages to `from`, from anywhere.
    ///
    /// # Errors
    ///
    /// As [`Self::tcp`].
    pub fn icmp(from: IpAddr) -> io::Result<Self> {
        let protocol = if from.is_ipv4() {
            ipproto::ICMP
        } else {
            ipproto::ICMPV6
        };
        Self::new(from, protocol)
    }

    fn new(from: IpAddr, protocol: Protocol) -> io::Result<Self> {
        let is_v4 = from.is_ipv4();
        let family = if is_v4 {
            AddressFamily::INET
        } else {
            AddressFamily::INET6
        };
        let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
        let socket = socket_with(family, SocketType::RAW, flags, Some(protocol))?;
        bind(&socket, &SocketAddr::new(from, 0))?;
        Ok(Self { socket, is_v4 })
    }

    /// Sends a segment with this TTL or hop limit; `None` for the kernel's.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send(&self, segment: &[u8], hop_limit: Option<u8>) -> io::Result<()> {
        let hop_limit = hop_limit.unwrap_or(HOP_LIMIT);
        if self.is_v4 {
            sockopt::set_ip_ttl(&self.socket, u32::from(hop_limit))?;
        } else {
            sockopt::set_ipv6_unicast_hops(&self.socket, Some(hop_limit))?;
        }
        match send(&self.socket, segment, SendFlags::NOSIGNAL) {
            // What ICMP told of an earlier segment: this one was not sent.
            Err(Errno::HOSTUNREACH | Errno::NETUNREACH | Errno::CONNREFUSED | Errno::PROTO) => {
                send(&self.socket, segment, SendFlags::NOSIGNAL)?;
            }
            sent => {
                sent?;
            }
        }
        Ok(())
    }

    /// The next packet without its IP header, and its source; `None` after `deadline`.
    ///
    /// # Errors
    ///
    /// As recv(2).
    pub fn receive(&self, deadline: Instant) -> io::Result<Option<(Vec<u8>, IpAddr)>> {
        loop {
            let mut bytes = vec![0; LONGEST];
            match recvfrom(&self.socket, &mut bytes[..], RecvFlags::empty()) {
                Ok((_, len, source)) => {
                    bytes.truncate(len);
                    let source = source.and_then(|source| SocketAddr::try_from(source).ok());
                    if let Some(source) = source
                        && let Some(payload) = self.payload(bytes)
                    {
                        return Ok(Some((payload, source.ip())));
                    }
                }
                Err(Errno::AGAIN) => {
                    let left = deadline.saturating_duration_since(Instant::now());
                    if left.is_zero() {
                        return Ok(None);
                    }
                    let left = Timespec::try_from(left).map_err(io::Error::other)?;
                    let mut socket = [PollFd::new(&self.socket, PollFlags::IN)];
                    match poll(&mut socket, Some(&left)) {
                        Ok(_) | Err(Errno::INTR) => {}
                        Err(error) => return Err(error.into()),
                    }
                }
                // What ICMP told of a segment; its message comes to the socket of ICMP.
                Err(
                    Errno::INTR
                    | Errno::HOSTUNREACH
                    | Errno::NETUNREACH
                    | Errno::CONNREFUSED
                    | Errno::PROTO,
                ) => {}
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Raw sockets of IPv4 give the IP header, those of IPv6 do not.
    fn payload(&self, mut bytes: Vec<u8>) -> Option<Vec<u8>> {
        if self.is_v4 {
            let header = usize::from(bytes.first()? & 0xf) * 4;
            if bytes.len() < header {
                return None;
            }
            bytes.drain(..header);
        }
        Some(bytes)
    }
}
