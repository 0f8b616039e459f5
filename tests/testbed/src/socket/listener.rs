//! Listening sockets.

use std::{
    io,
    net::{IpAddr, SocketAddr, TcpListener},
    time::Duration,
};

use anyhow::{Context as _, Result};
use rustix::event::PollFlags;
use socket2::Socket;

use super::{Connection, QUEUE, retry, socket};
use crate::{netns::Netns, sockopt};

/// Socket options of a listener.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Length of the Fast Open queue (`TCP_FASTOPEN`); `None` does not set it.
    pub queue: Option<u32>,
    /// Argument of listen(2): length of the SYN queue and of the accept queue.
    pub backlog: u32,
    /// `TCP_FASTOPEN_KEY`: 16 bytes, or 32 with a backup key; empty does not set it.
    pub keys: &'static [u8],
    /// `TCP_FASTOPEN_NO_COOKIE`.
    pub no_cookie: bool,
}

impl Settings {
    /// Fast Open with queues of [`QUEUE`] entries.
    pub const FAST_OPEN: Self = Self {
        queue: Some(QUEUE),
        backlog: QUEUE,
        keys: &[],
        no_cookie: false,
    };
}

/// A listening socket.
#[derive(Debug)]
pub struct Listener {
    socket: Socket,
    address: SocketAddr,
}

impl Listener {
    /// Listens with Fast Open. Port 0 selects a free port.
    ///
    /// # Errors
    ///
    /// As socket(2), bind(2), setsockopt(2) and listen(2).
    pub fn fast_open(netns: &Netns, address: SocketAddr) -> Result<Self> {
        Self::open(netns, address, Some(QUEUE))
    }

    /// Listens without Fast Open.
    ///
    /// # Errors
    ///
    /// As [`Listener::fast_open`].
    pub fn plain(netns: &Netns, address: SocketAddr) -> Result<Self> {
        Self::open(netns, address, None)
    }

    /// Listens with a Fast Open queue of this length; `None` for no Fast Open.
    ///
    /// # Errors
    ///
    /// As [`Listener::fast_open`].
    pub fn open(netns: &Netns, address: SocketAddr, queue: Option<u32>) -> Result<Self> {
        let settings = Settings {
            queue,
            ..Settings::FAST_OPEN
        };
        Self::with(netns, address, &settings)
    }

    /// Listens with these settings. An IPv6 socket is dual-stack.
    ///
    /// # Errors
    ///
    /// As [`Listener::fast_open`].
    pub fn with(netns: &Netns, address: SocketAddr, settings: &Settings) -> Result<Self> {
        netns
            .run(|| {
                let socket = socket(address)?;
                socket.set_reuse_address(true)?;
                if address.is_ipv6() {
                    socket.set_only_v6(false)?;
                }
                socket.bind(&address.into())?;
                if let Some(queue) = settings.queue {
                    sockopt::set_fast_open(&socket, queue)?;
                }
                if !settings.keys.is_empty() {
                    sockopt::set_fast_open_keys(&socket, settings.keys)?;
                }
                if settings.no_cookie {
                    sockopt::set_fast_open_no_cookie(&socket)?;
                }
                socket.listen(settings.backlog.cast_signed())?;
                let address = socket.local_addr()?.as_socket().unwrap_or(address);
                Ok::<_, io::Error>(Self { socket, address })
            })
            .with_context(|| format!("cannot listen on {address} in {}", netns.name()))
    }

    /// Listens on a bound socket.
    ///
    /// # Errors
    ///
    /// As listen(2), or the socket is not bound.
    pub fn of(socket: Socket) -> Result<Self> {
        socket.set_nonblocking(true)?;
        socket.listen(QUEUE.cast_signed())?;
        let address = socket.local_addr()?.as_socket();
        let address = address.context("not bound to an address")?;
        Ok(Self { socket, address })
    }

    /// Enables Fast Open with a queue of this length.
    ///
    /// # Errors
    ///
    /// As setsockopt(2).
    pub fn enable_fast_open(&self, queue: u32) -> Result<()> {
        Ok(sockopt::set_fast_open(&self.socket, queue)?)
    }

    /// Makes the socket blocking, for accept(2) without a timeout.
    ///
    /// # Errors
    ///
    /// As fcntl(2).
    pub fn blocking(self) -> Result<TcpListener> {
        self.socket.set_nonblocking(false)?;
        Ok(self.socket.into())
    }

    /// Requires TCP-MD5 signatures from `peer` (`TCP_MD5SIG`).
    ///
    /// # Errors
    ///
    /// As setsockopt(2); `ENOPROTOOPT` from a kernel without `CONFIG_TCP_MD5SIG`.
    pub fn expect_signatures(&self, peer: IpAddr) -> Result<()> {
        Ok(sockopt::set_signed(&self.socket, peer)?)
    }

    /// Local port.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Accepts and resets all queued connections, which frees their queue slots. Returns their number.
    ///
    /// # Errors
    ///
    /// As accept(2).
    pub fn reset_all(&self) -> Result<usize> {
        let mut count = 0;
        loop {
            match self.socket.accept_raw() {
                Ok((socket, _)) => {
                    socket.set_linger(Some(Duration::ZERO))?;
                    count += 1;
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return Ok(count),
                Err(error) => return Err(error.into()),
            }
        }
    }

    /// Accepts one connection.
    ///
    /// # Errors
    ///
    /// As accept(2), or no connection within the time limit.
    pub fn accept(&self) -> Result<Connection> {
        let (socket, _) = retry(&self.socket, PollFlags::IN, || self.socket.accept())
            .context("no connection to accept")?;
        socket.set_nonblocking(true)?;
        Ok(Connection { socket })
    }
}
