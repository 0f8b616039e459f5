//! A TCP socket that connects, with or without Fast Open, and what `TCP_INFO` tells of it.

use std::{
    io,
    net::{IpAddr, SocketAddr},
    os::fd::{AsFd, AsRawFd as _, BorrowedFd, OwnedFd},
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
    net::{
        AddressFamily, SendFlags, SocketFlags, SocketType, bind, connect, getsockname, send,
        sendto, socket_with, sockopt,
    },
};

/// Time between two looks at `TCP_INFO`.
const LOOK: Duration = Duration::from_micros(200);
/// `tcpi_state`.
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const CLOSE: u8 = 7;
/// `TCPI_OPT_SYN_DATA`.
const SYN_DATA: u8 = 0x20;

/// `tcpi_fastopen_client_fail`: why the kernel did not use Fast Open.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum ClientFail {
    /// No reason is given: it was used, or not asked for, or the kernel has turned it off for a while.
    None,
    /// There was no cookie for this destination.
    NoCookie,
    /// The SYN-ACK did not acknowledge the data in the SYN.
    DataNotAcked,
    /// The SYN with data was not answered, and was sent again without.
    SynRetransmitted,
}

/// The result of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Connected {
    /// Time until the handshake was done, in microseconds.
    pub handshake_us: u64,
    /// Time until the peer had acknowledged the data, in microseconds, from the start of the handshake; `None` where it reset
    /// the connection, or did not answer in time.
    pub data_acked_us: Option<u64>,
    /// The SYN-ACK acknowledged data in the SYN.
    pub syn_data_taken: bool,
    /// Why Fast Open was not used.
    pub client_fail: ClientFail,
}

/// Connects to `server` and sends `data`; with `fast_open` by `MSG_FASTOPEN`: in the SYN if the kernel has a cookie, else with
/// a cookie request. The connection is closed afterwards.
///
/// # Errors
///
/// As connect(2); `TimedOut` after `limit`.
pub fn exchange(
    server: SocketAddr,
    from: Option<IpAddr>,
    data: &[u8],
    fast_open: bool,
    limit: Duration,
) -> io::Result<Connected> {
    let socket = stream(server.ip(), from)?;
    let start = Instant::now();
    let deadline = start + limit;
    let mut sent = 0;
    let begun = if fast_open {
        let flags = SendFlags::from_bits_retain(libc::MSG_FASTOPEN.cast_unsigned());
        sendto(&socket, data, flags | SendFlags::NOSIGNAL, &server).map(|count| sent = count)
    } else {
        connect(&socket, &server)
    };
    match begun {
        Ok(()) | Err(Errno::INPROGRESS) => {}
        Err(error) => return Err(error.into()),
    }
    // Not poll(2): with data in the SYN a socket is writable before the handshake is done.
    let mut info =
        wait(&socket, deadline, |info| info.state != SYN_SENT)?.ok_or(io::ErrorKind::TimedOut)?;
    let handshake_us = micros(start);
    if let Err(error) = sockopt::socket_error(&socket)? {
        return Err(error.into());
    }
    if sent < data.len() {
        writable(&socket, deadline)?;
        // A reset may have come meanwhile.
        let _ = send(&socket, &data[sent..], SendFlags::NOSIGNAL);
    }
    let acked = wait(&socket, deadline, |info| {
        info.state == CLOSE || (info.unacked == 0 && info.not_sent == 0)
    })?;
    let data_acked_us = match acked {
        Some(last) if last.state != CLOSE => {
            info = last;
            Some(micros(start))
        }
        _ => None,
    };
    Ok(Connected {
        handshake_us,
        data_acked_us,
        syn_data_taken: info.syn_data_taken(),
        client_fail: info.client_fail,
    })
}

/// A non-blocking socket, bound to `from`.
fn stream(to: IpAddr, from: Option<IpAddr>) -> io::Result<OwnedFd> {
    let family = if to.is_ipv4() {
        AddressFamily::INET
    } else {
        AddressFamily::INET6
    };
    let flags = SocketFlags::CLOEXEC | SocketFlags::NONBLOCK;
    let socket = socket_with(family, SocketType::STREAM, flags, None)?;
    if let Some(from) = from {
        bind(&socket, &SocketAddr::new(from, 0))?;
    }
    Ok(socket)
}

/// A port of `address` that no other socket uses for as long as this lives. The kernel answers a SYN-ACK for it with a reset.
#[derive(Debug)]
pub struct ReservedPort {
    /// The port.
    pub port: u16,
    _socket: OwnedFd,
}

impl ReservedPort {
    /// Takes a free port.
    ///
    /// # Errors
    ///
    /// As bind(2).
    pub fn take(address: IpAddr) -> io::Result<Self> {
        let socket = stream(address, Some(address))?;
        let bound = SocketAddr::try_from(getsockname(&socket)?)?;
        Ok(Self {
            port: bound.port(),
            _socket: socket,
        })
    }
}

/// The start of `struct tcp_info`.
#[derive(Clone, Copy, Debug)]
pub struct TcpInfo {
    state: u8,
    options: u8,
    /// Why Fast Open was not used, at the client.
    pub client_fail: ClientFail,
    unacked: u32,
    not_sent: u32,
}

impl TcpInfo {
    /// The state of a TCP socket.
    ///
    /// # Errors
    ///
    /// As getsockopt(2).
    pub fn of(socket: &impl AsFd) -> io::Result<Self> {
        read_info(socket.as_fd())
    }

    /// The SYN-ACK acknowledged data in the SYN; at the server: data in the SYN was taken.
    pub const fn syn_data_taken(&self) -> bool {
        self.options & SYN_DATA != 0
    }

    /// The server waits for the ACK that completes the handshake.
    pub const fn handshake_open(&self) -> bool {
        self.state == SYN_RECV
    }
}

/// Waits until `holds`; `None` after `deadline`.
fn wait(
    socket: &OwnedFd,
    deadline: Instant,
    holds: impl Fn(&TcpInfo) -> bool,
) -> io::Result<Option<TcpInfo>> {
    loop {
        let info = TcpInfo::of(socket)?;
        if holds(&info) {
            return Ok(Some(info));
        }
        if Instant::now() >= deadline {
            return Ok(None);
        }
        std::thread::sleep(LOOK);
    }
}

fn writable(socket: &OwnedFd, deadline: Instant) -> io::Result<()> {
    let left = deadline.saturating_duration_since(Instant::now());
    let left = Timespec::try_from(left).map_err(io::Error::other)?;
    let mut socket = [PollFd::new(socket, PollFlags::OUT)];
    poll(&mut socket, Some(&left))?;
    Ok(())
}

fn read_info(socket: BorrowedFd<'_>) -> io::Result<TcpInfo> {
    const LEN: usize = 148;
    let mut bytes = [0_u8; LEN];
    let mut length = LEN as libc::socklen_t;
    // SAFETY: the socket is open, and the kernel writes at most `length` bytes to `bytes`.
    let result = unsafe {
        libc::getsockopt(
            socket.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            bytes.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    if result != 0 {
        return Err(io::Error::last_os_error());
    }
    Ok(parse_info(&bytes))
}

fn parse_info(bytes: &[u8; 148]) -> TcpInfo {
    let word = |at: usize| {
        bytes[at..]
            .first_chunk()
            .map_or(0, |it| u32::from_ne_bytes(*it))
    };
    // `tcpi_delivery_rate_app_limited:1`, `tcpi_fastopen_client_fail:2`.
    let flags = bytes[7];
    let fail = if cfg!(target_endian = "little") {
        flags >> 1 & 3
    } else {
        flags >> 5 & 3
    };
    TcpInfo {
        state: bytes[0],
        options: bytes[5],
        client_fail: match fail {
            1 => ClientFail::NoCookie,
            2 => ClientFail::DataNotAcked,
            3 => ClientFail::SynRetransmitted,
            _ => ClientFail::None,
        },
        unacked: word(24),
        not_sent: word(144),
    }
}

fn micros(start: Instant) -> u64 {
    start.elapsed().as_micros() as u64
}

#[cfg(test)]
mod tests {
    use std::{net::TcpListener, thread};

    use super::*;

    #[test]
    fn data_is_acknowledged_and_a_closed_port_refuses() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let server = listener.local_addr().unwrap();
        let accepted = thread::spawn(move || listener.accept().map(|(socket, _)| socket));
        let limit = Duration::from_secs(20);
        let connected = exchange(server, None, b"\r\n", false, limit).unwrap();
        assert!(!connected.syn_data_taken);
        assert_eq!(connected.client_fail, ClientFail::None);
        assert!(connected.data_acked_us.unwrap() >= connected.handshake_us);
        drop(accepted.join().unwrap().unwrap());
        let refused = exchange(server, None, b"\r\n", false, limit).unwrap_err();
        assert_eq!(refused.kind(), io::ErrorKind::ConnectionRefused);
    }

    #[test]
    fn a_reserved_port_is_nobody_elses() {
        let address = "127.0.0.1".parse().unwrap();
        let reserved = ReservedPort::take(address).unwrap();
        assert!(TcpListener::bind((address, reserved.port)).is_err());
    }

    #[test]
    fn the_reason_of_the_kernel_is_read() {
        let mut bytes = [0; 148];
        bytes[7] = if cfg!(target_endian = "little") {
            0b101
        } else {
            0b1010_0000
        };
        assert_eq!(parse_info(&bytes).client_fail, ClientFail::DataNotAcked);
    }
}
