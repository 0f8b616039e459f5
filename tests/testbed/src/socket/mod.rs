//! Real TCP Fast Open: the kernel's client and the kernel's server, and what they say of a connection.
//!
//! Every wait gives up after [`LIMIT`], so that a test fails rather than hangs. Sockets do not block:
//! a process that starts others gets signals that interrupt a blocking call with a time limit, even
//! where they are ignored, and an interrupted `sendto` cannot be repeated.

mod connection;
mod listener;

use std::{io, net::SocketAddr, os::fd::AsFd as _, time::Duration};

use rustix::event::PollFlags;
use socket2::{Domain, Socket, Type};

pub use self::{
    connection::Connection,
    listener::{Listener, Settings},
};
use crate::poll::{Deadline, any_ready};

/// How long a socket waits for anything. Longer than two retries of a lost segment.
pub const LIMIT: Duration = Duration::from_secs(8);

/// The length of a listener's queues: of Fast Open connections whose handshake has not ended, and of
/// connections that nobody has accepted yet. No test fills them without meaning to.
pub const QUEUE: u32 = 1024;

/// Most bytes of a request or a reply.
const MESSAGE_MAX: usize = 4096;

/// How a client asks the kernel for Fast Open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Method {
    /// One `sendto` with `MSG_FASTOPEN` connects and sends.
    SendTo,
    /// `TCP_FASTOPEN_CONNECT`, then `connect` and `send` as ever.
    ConnectOption,
    /// No Fast Open: `connect` and `send`.
    Plain,
    /// The same, but the ACK that ends the handshake waits for the data (`TCP_DEFER_ACCEPT`).
    DataOnAck,
}

/// What the kernel says of a connection: `TCP_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Info {
    /// The handshake has not ended yet: the server is in the state `SYN_RECV`.
    pub handshake_open: bool,
    /// The SYN carried data and the SYN-ACK acknowledged it: `TCPI_OPT_SYN_DATA`.
    pub syn_data_taken: bool,
}

/// What both ends of a connection agreed upon, as the kernel of one of them says: `TCP_INFO`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Terms {
    /// Timestamps are used.
    pub timestamps: bool,
    /// Selective acknowledgements are.
    pub sack: bool,
    /// Explicit congestion notification is.
    pub ecn: bool,
    /// The scale of the peer's windows, and of this end's; `None` without window scaling.
    pub scales: Option<(u8, u8)>,
    /// Bytes of data in a segment that this end sends.
    pub segment_size: u32,
    /// Bytes of data in a segment that this end said it takes.
    pub advertised_size: u32,
    /// Bytes of a packet on the way to the peer.
    pub path_mtu: u32,
}

fn socket(peer: SocketAddr) -> io::Result<Socket> {
    let socket = Socket::new(Domain::for_address(peer), Type::STREAM, None)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}

/// Repeats `call` until it needs to wait no more.
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
