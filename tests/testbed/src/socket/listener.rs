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

/// What is set on a listening socket.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// The length of the Fast Open queue; `None` leaves `TCP_FASTOPEN` alone.
    pub queue: Option<u32>,
    /// The argument of listen(2): the length of the SYN queue and of the accept queue.
    pub backlog: u32,
    /// Keys of its own, of 16 bytes each: one, or a second one as the backup; or none.
    pub keys: &'static [u8],
    /// `TCP_FASTOPEN_NO_COOKIE`.
    pub no_cookie: bool,
}

impl Settings {
    /// Fast Open, and queues that no test fills without meaning to.
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
    /// Listens with Fast Open. Port 0 stands for any free one.
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

    /// Listens; with Fast Open where there is a `queue` for it.
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

    /// Listens with these settings.
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

    /// Listens with a socket that is bound.
    ///
    /// # Errors
    ///
    /// As listen(2).
    pub fn of(socket: Socket) -> Result<Self> {
        socket.set_nonblocking(true)?;
        socket.listen(QUEUE.cast_signed())?;
        let address = socket.local_addr()?.as_socket();
        let address = address.context("not bound to an address")?;
        Ok(Self { socket, address })
    }

    /// The same socket, whose accept(2) waits for as long as it takes.
    ///
    /// # Errors
    ///
    /// As fcntl(2).
    pub fn blocking(self) -> Result<TcpListener> {
        self.socket.set_nonblocking(false)?;
        Ok(self.socket.into())
    }

    /// Expects TCP-MD5 signatures of `peer`.
    ///
    /// # Errors
    ///
    /// As setsockopt(2), where the kernel knows none.
    pub fn expect_signatures(&self, peer: IpAddr) -> Result<()> {
        Ok(sockopt::set_signed(&self.socket, peer)?)
    }

    /// The port that it listens on.
    pub const fn port(&self) -> u16 {
        self.address.port()
    }

    /// Accepts and resets whatever connections are there, which frees their places in the queues.
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

    /// The next connection.
    ///
    /// # Errors
    ///
    /// As accept(2); also where none comes within [`LIMIT`].
    pub fn accept(&self) -> Result<Connection> {
        let (socket, _) = retry(&self.socket, PollFlags::IN, || self.socket.accept())
            .context("no connection came")?;
        socket.set_nonblocking(true)?;
        Ok(Connection { socket })
    }
}
