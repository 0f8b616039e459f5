//! The steps of a probe, and its observations.

use std::{
    io,
    net::{IpAddr, SocketAddr, UdpSocket},
    time::Duration,
};

use serde::Serialize;

use super::{
    prober::Prober,
    syns::{Look, Syns},
};
use crate::kernel::{
    client_socket::{ClientFail, Connected, exchange},
    sysctl::{self, Mode},
};

/// Bit 0x1 of `net.ipv4.tcp_fastopen`: clients may use Fast Open.
pub(super) const CLIENT: u32 = 0x1;
/// The data of a probe: an empty line, which HTTP servers skip (RFC 9112, section 2.2), and others
/// refuse.
const DATA: &[u8] = b"\r\n";
/// The time that a connection gets.
const LIMIT: Duration = Duration::from_secs(10);

/// The observations of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Probe {
    /// The server.
    pub server: SocketAddr,
    /// The local address.
    pub from: IpAddr,
    /// `net.ipv4.tcp_fastopen` of this host.
    pub tcp_fastopen: u32,
    /// Connections without Fast Open.
    pub plain: Vec<Connected>,
    /// Connections with it, one after the other, each from another port.
    pub fast_open: Vec<Connected>,
    /// The results of raw SYNs.
    pub syns: Option<Syns>,
    /// Why raw SYNs showed nothing.
    pub not_seen: Option<String>,
}

/// Why there is nothing to judge.
#[derive(Debug, thiserror::Error)]
pub enum ProbeError {
    /// No route, or no such local address.
    #[error("{server}: no route from here{by}: {source}: `ip route get {ip}` shows the kernel's", by = .from.map(|from| format!(" with the address {from}")).unwrap_or_default(), ip = server.ip())]
    Route {
        /// The server.
        server: SocketAddr,
        /// The address that was asked for.
        from: Option<IpAddr>,
        /// The kernel's error.
        source: io::Error,
    },
    /// Not even an ordinary connection came about.
    #[error("{server}: cannot connect without Fast Open either: {source}: {remedy}", remedy = connect_remedy(source))]
    Connect {
        /// The server.
        server: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
    /// The host's sysctl.
    #[error(transparent)]
    Sysctl(#[from] sysctl::SysctlError),
    /// Raw sockets.
    #[error(
        "{server}: raw SYNs: {source}: a firewall of this host may refuse them: `nft list ruleset`"
    )]
    Raw {
        /// The server.
        server: SocketAddr,
        /// The kernel's error.
        source: io::Error,
    },
}

fn connect_remedy(error: &io::Error) -> &'static str {
    match error.kind() {
        io::ErrorKind::ConnectionRefused => {
            "nothing listens there, or a firewall resets: give the port of the server, as in HOST:PORT"
        }
        io::ErrorKind::TimedOut => {
            "the server is down, or a firewall drops: try `ping`, and give the port of the server, as in HOST:PORT"
        }
        _ => "check address and port, and the route to it",
    }
}

impl Probe {
    /// Opens two ordinary connections to `server` and `count` with Fast Open; and where this process may, sends raw SYNs.
    ///
    /// # Errors
    ///
    /// [`ProbeError`].
    pub fn run(server: SocketAddr, from: Option<IpAddr>, count: u32) -> Result<Self, ProbeError> {
        let local = local_address(server, from).map_err(|source| ProbeError::Route {
            server,
            from,
            source,
        })?;
        let Mode(tcp_fastopen) = sysctl::mode()?;
        let connect = |fast_open| {
            let connected = exchange(server, Some(local), DATA, fast_open, LIMIT);
            connected.map_err(|source| ProbeError::Connect { server, source })
        };
        // The first may wait for a neighbour's MAC address.
        let plain = vec![connect(false)?, connect(false)?];
        let mut fast_open = Vec::new();
        // The kernel refuses MSG_FASTOPEN without it.
        if tcp_fastopen & CLIENT != 0 {
            for _ in 0..count {
                fast_open.push(connect(true)?);
            }
        }
        let failed = fast_open.iter().any(|each| {
            matches!(
                each.client_fail,
                ClientFail::DataNotAcked | ClientFail::SynRetransmitted
            )
        });
        let (syns, not_seen) = match Prober::new(local, server) {
            Ok(prober) => {
                let syns = Look::new(prober).run(count, DATA, failed);
                let syns = syns.map_err(|source| ProbeError::Raw { server, source })?;
                (Some(syns), None)
            }
            Err(error) => (None, Some(refused(&error))),
        };
        Ok(Self {
            server,
            from: local,
            tcp_fastopen,
            plain,
            fast_open,
            syns,
            not_seen,
        })
    }

    /// Connections that were opened, with Fast Open or without.
    pub fn connections(&self) -> usize {
        self.fast_open.len() + self.plain.len()
    }
}

fn refused(error: &io::Error) -> String {
    let what = "both forms of cookies, keys, and hops of the path";
    match error.kind() {
        io::ErrorKind::PermissionDenied => {
            format!("{what}: that takes raw SYNs, and those CAP_NET_RAW: run tfo as root")
        }
        _ => format!("{what}: raw sockets do not work here: {error}"),
    }
}

/// The address that the kernel takes for packets to `server`.
fn local_address(server: SocketAddr, from: Option<IpAddr>) -> io::Result<IpAddr> {
    let any = if server.is_ipv4() {
        IpAddr::from([0; 4])
    } else {
        IpAddr::from([0; 16])
    };
    let socket = UdpSocket::bind((from.unwrap_or(any), 0))?;
    socket.connect(server)?;
    Ok(socket.local_addr()?.ip())
}
