//! Kernel TCP sockets with Fast Open: clients, listeners, and `TCP_INFO`.
//!
//! Every wait ends after [`LIMIT`], so that a test fails instead of hanging. Sockets are non-blocking: signals such as
//! `SIGCHLD` interrupt a blocking call with a timeout even if they are ignored, and an interrupted `sendto` with
//! `MSG_FASTOPEN` cannot be repeated.

mod connection;
mod listener;

use std::{io, net::SocketAddr, os::fd::AsFd, time::Duration};

use rustix::event::PollFlags;
use socket2::{Domain, Socket, Type};

pub use self::{
    connection::Connection,
    listener::{Listener, Settings},
};
use crate::{
    poll::{Deadline, any_ready},
    sockopt,
};

/// Timeout of each socket operation. Longer than two retransmissions of a SYN (1 s and 3 s).
pub const LIMIT: Duration = Duration::from_secs(8);

/// Default length of a listener's Fast Open queue and of its backlog; long enough not to overflow.
pub const QUEUE: u32 = 1024;

/// Maximum of bytes per read.
const MESSAGE_MAX: usize = 4096;

/// Client API to open a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// `sendto` with `MSG_FASTOPEN`.
    SendTo,
    /// `TCP_FASTOPEN_CONNECT`, then `connect` and `send`.
    ConnectOption,
    /// `connect` and `send`, without Fast Open.
    Plain,
    /// As `Plain`, with `TCP_DEFER_ACCEPT`: the ACK that completes the handshake carries the data.
    DataOnAck,
}

/// State of a connection, from `TCP_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// `tcpi_state` is `TCP_SYN_RECV`: the handshake is not complete.
    pub handshake_open: bool,
    /// `TCPI_OPT_SYN_DATA`: the SYN-ACK acknowledged data in the SYN.
    pub syn_data_taken: bool,
}

impl Info {
    /// The state of a TCP socket.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        let info = sockopt::tcp_info(socket)?;
        Ok(Self {
            handshake_open: info.state == sockopt::SYN_RECV,
            syn_data_taken: info.options & sockopt::OPTION_SYN_DATA != 0,
        })
    }
}

/// Negotiated parameters of a connection, from `TCP_INFO` of one end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// `TCPI_OPT_TIMESTAMPS`.
    pub timestamps: bool,
    /// `TCPI_OPT_SACK`.
    pub sack: bool,
    /// `TCPI_OPT_ECN`.
    pub ecn: bool,
    /// Window scales of the peer and of this end; `None` without `TCPI_OPT_WSCALE`.
    pub scales: Option<(u8, u8)>,
    /// `tcpi_snd_mss`, in bytes.
    pub segment_size: u32,
    /// `tcpi_advmss`, in bytes.
    pub advertised_size: u32,
    /// `tcpi_pmtu`, in bytes.
    pub path_mtu: u32,
}

fn socket(peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Repeats `call` after `EAGAIN` and `EINTR`.
fn retry<T>(
    socket: &Socket,
    ready: PollFlags,
    mut call: impl FnMut() -> io::Result<T>,
) -> io::Result<T> {
    loop {
        match call() {
            Err(error) if error.kind() == io::ErrorKind::WouldBlock => wait(socket, ready)?,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            other => return other,
        }
    }
}

fn wait(socket: &Socket, ready: PollFlags) -> io::Result<()> {
    if any_ready(&[socket.as_fd()], ready, Deadline::after(LIMIT))? {
        Ok(())
    } else {
        Err(io::ErrorKind::TimedOut.into())
    }
}
