//! Real TCP Fast Open: the kernel's client and the kernel's server, and what they say of a connection.
//!
//! Every wait gives up after [`LIMIT`], so that a test fails rather than hangs. Sockets do not block:
//! a process that starts others gets signals that interrupt a blocking call with a time limit, even
//! where they are ignored, and an interrupted `sendto` cannot be repeated.

use std::{
    io::{self, Read as _},
    net::{IpAddr, Shutdown, SocketAddr, TcpListener},
    os::fd::AsFd as _,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::event::PollFlags;
use socket2::{Domain, Socket, Type};

use crate::{netns::Netns, poll::any_ready, sockopt};

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

/// One end of a connection.
#[derive(Debug)]
pub struct Connection {
    socket: Socket,
}

impl Connection {
    /// Connects from `netns` to `server` and sends `request`.
    ///
    /// # Errors
    ///
    /// As sendto(2) and connect(2); also where the handshake does not end within [`LIMIT`].
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
                    // With a cookie this does nothing yet, and the SYN waits for the data.
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
                // A SYN without data is on its way.
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

    /// Sends a SYN to `server` with `request` in it, and does not wait for the SYN-ACK.
    ///
    /// # Errors
    ///
    /// As sendto(2). Without a cookie the kernel sends a SYN without data: `EINPROGRESS`.
    pub fn open_without_waiting(netns: &Netns, server: SocketAddr, request: &[u8]) -> Result<Self> {
        let connection = netns.run(|| {
            let socket = socket(server)?;
            let sent = socket.send_to_with_flags(request, &server.into(), libc::MSG_FASTOPEN)?;
            Ok::<_, io::Error>((Self { socket }, sent))
        });
        let (connection, sent) =
            connection.with_context(|| format!("the SYN to {server} took no data"))?;
        ensure!(sent == request.len(), "the SYN took only {sent} bytes");
        Ok(connection)
    }

    /// What the kernel says of it.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn info(&self) -> Result<Info> {
        let info = sockopt::tcp_info(&self.socket)?;
        Ok(Info {
            handshake_open: info.state == sockopt::SYN_RECV,
            syn_data_taken: info.options & sockopt::OPTION_SYN_DATA != 0,
        })
    }

    /// What was agreed upon.
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

    /// Sends `message`.
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

    /// What is there to be read: up to [`MESSAGE_MAX`] bytes, none at the end of the stream.
    ///
    /// # Errors
    ///
    /// As recv(2); also where nothing comes within [`LIMIT`].
    pub fn receive(&self) -> Result<Vec<u8>> {
        let mut message = vec![0; MESSAGE_MAX];
        let len = retry(&self.socket, PollFlags::IN, || {
            (&self.socket).read(&mut message)
        })
        .context("nothing came")?;
        message.truncate(len);
        Ok(message)
    }

    /// Says that no more will be sent.
    ///
    /// # Errors
    ///
    /// As shutdown(2).
    pub fn finish(&self) -> Result<()> {
        Ok(self.socket.shutdown(Shutdown::Write)?)
    }
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
    if any_ready(&[socket.as_fd()], ready, LIMIT)? {
        Ok(())
    } else {
        Err(io::ErrorKind::TimedOut.into())
    }
}
