//! Connected sockets.

use std::{
    io::{self, Read as _},
    net::{Ipv4Addr, Ipv6Addr, Shutdown, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::event::PollFlags;
use socket2::Socket;

use super::{Info, MESSAGE_MAX, Method, Terms, retry, socket, wait};
use crate::{netns::Netns, sockopt};

/// A connected socket.
#[derive(Debug)]
pub struct Connection {
    pub(super) socket: Socket,
}

impl Connection {
    /// Connects from `netns` to `server` and sends `request`.
    ///
    /// # Errors
    ///
    /// As sendto(2) and connect(2), or the handshake does not complete within the time limit.
    pub fn open(netns: &Netns, server: SocketAddr, method: Method, request: &[u8]) -> Result<Self> {
        let connection = netns.run(|| {
            let socket = socket(server)?;
            let started = match method {
                Method::SendTo => {
                    let flags = libc::MSG_FASTOPEN;
                    socket.send_to_with_flags(request, &server.into(), flags)
                }
                Method::ConnectOption => {
                    sockopt::set_fast_open_connect(&socket)?;
                    // With a cookie, connect(2) sends nothing: the SYN waits for data.
                    let started = socket.connect(&server.into());
                    started.and_then(|()| socket.send(request))
                }
                Method::Plain => socket.connect(&server.into()).map(|()| 0),
                Method::DataOnAck => {
                    sockopt::set_defer_accept(&socket)?;
                    socket.connect(&server.into()).map(|()| 0)
                }
            };
            let sent = match started {
                Ok(sent) => sent,
                // A SYN without data was sent.
                Err(error) if error.raw_os_error() == Some(libc::EINPROGRESS) => 0,
                Err(error) => return Err(error),
            };
            wait(&socket, PollFlags::OUT)?;
            if let Some(error) = socket.take_error()? {
                return Err(error);
            }
            Ok((Self { socket }, sent))
        });
        let (connection, sent) =
            connection.with_context(|| format!("cannot connect to {server} by {method:?}"))?;
        connection.send(&request[sent..])?;
        Ok(connection)
    }

    /// Connects from `port` of `netns` to `server`.
    ///
    /// # Errors
    ///
    /// As bind(2) and connect(2), or the handshake does not complete within the time limit.
    pub fn open_from(netns: &Netns, port: u16, server: SocketAddr) -> Result<Self> {
        let any = match server {
            SocketAddr::V4(_) => SocketAddr::new(Ipv4Addr::UNSPECIFIED.into(), port),
            SocketAddr::V6(_) => SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), port),
        };
        let connection = netns.run(|| {
            let socket = socket(server)?;
            socket.set_reuse_address(true)?;
            socket.bind(&any.into())?;
            match socket.connect(&server.into()) {
                Err(error) if error.raw_os_error() != Some(libc::EINPROGRESS) => return Err(error),
                _ => wait(&socket, PollFlags::OUT)?,
            }
            match socket.take_error()? {
                Some(error) => Err(error),
                None => Ok(Self { socket }),
            }
        });
        connection.with_context(|| format!("cannot connect to {server} from port {port}"))
    }

    /// Sends a SYN with `request` to `server`, and does not wait for the SYN-ACK.
    ///
    /// # Errors
    ///
    /// As sendto(2): `EINPROGRESS` without a cookie, when the SYN carries no data. Also if the SYN has no room for all
    /// of `request`.
    pub fn open_without_waiting(netns: &Netns, server: SocketAddr, request: &[u8]) -> Result<Self> {
        let connection = netns.run(|| {
            let socket = socket(server)?;
            let sent = socket.send_to_with_flags(request, &server.into(), libc::MSG_FASTOPEN)?;
            Ok::<_, io::Error>((Self { socket }, sent))
        });
        let (connection, sent) =
            connection.with_context(|| format!("the SYN to {server} carries no data"))?;
        ensure!(sent == request.len(), "the SYN carries only {sent} bytes");
        Ok(connection)
    }

    /// Handshake state and use of SYN data.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn info(&self) -> Result<Info> {
        Ok(Info::of(&self.socket)?)
    }

    /// Negotiated options and sizes.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn terms(&self) -> Result<Terms> {
        let info = sockopt::tcp_info(&self.socket)?;
        let [timestamps, sack, scales, ecn] =
            sockopt::OPTIONS_AGREED.map(|option| info.options & option != 0);
        Ok(Terms {
            timestamps,
            sack,
            ecn,
            scales: scales.then_some((info.scales & 0xf, info.scales >> 4)),
            segment_size: info.segment_size,
            advertised_size: info.advertised_size,
            path_mtu: info.path_mtu,
        })
    }

    /// Sends all of `message`.
    ///
    /// # Errors
    ///
    /// As send(2).
    pub fn send(&self, message: &[u8]) -> Result<()> {
        let mut left = message;
        while !left.is_empty() {
            let sent = retry(&self.socket, PollFlags::OUT, || self.socket.send(left))
                .context("cannot send")?;
            left = &left[sent..];
        }
        Ok(())
    }

    /// Reads up to 4096 bytes; empty at the end of the stream.
    ///
    /// # Errors
    ///
    /// As recv(2), or no data within the time limit.
    pub fn receive(&self) -> Result<Vec<u8>> {
        let mut message = vec![0; MESSAGE_MAX];
        let len = retry(&self.socket, PollFlags::IN, || {
            (&self.socket).read(&mut message)
        })
        .context("no data received")?;
        message.truncate(len);
        Ok(message)
    }

    /// Bytes in the receive buffer (`FIONREAD`).
    ///
    /// # Errors
    ///
    /// As ioctl(2).
    pub fn unread(&self) -> Result<u64> {
        Ok(rustix::io::ioctl_fionread(&self.socket)?)
    }

    /// Resets the connection: nothing of it is sent again.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn reset(self) -> Result<()> {
        Ok(self.socket.set_linger(Some(Duration::ZERO))?)
    }

    /// Closes the connection without a word to the peer, as a machine does that loses its power.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn vanish(self) -> Result<()> {
        Ok(sockopt::set_repair(&self.socket)?)
    }

    /// Shuts down the sending side.
    ///
    /// # Errors
    ///
    /// As shutdown(2).
    pub fn finish(&self) -> Result<()> {
        Ok(self.socket.shutdown(Shutdown::Write)?)
    }
}
