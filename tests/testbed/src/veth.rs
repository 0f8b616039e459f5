//! A client's and a server's network namespace, joined by veth.
//!
//! Only a test's own frames are sent: no duplicate address detection, permanent neighbours, no link-local addresses.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tfo_userspace::demo::Middlebox;

use crate::{
    delay::Line,
    netns::{Netns, wait_until_up},
};

/// A MAC address.
pub type Mac = [u8; 6];

/// Interface of the client.
pub const CLIENT_INTERFACE: &str = "client0";
/// Interface of the server, to which `tfo` is attached.
pub const SERVER_INTERFACE: &str = "server0";
/// MAC address of the client.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// MAC address of the server.
pub const SERVER_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// MAC address of no host: kernels ignore frames for it, packet sockets receive them.
pub const NOBODYS_MAC: Mac = [2, 0, 0, 0, 0, 0x99];

/// An address family.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// 10.77.0.0/24.
    V4,
    /// `fd77::/64`.
    V6,
}

impl Family {
    /// All values, for loops.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// Address of the server.
    pub const fn server(self) -> IpAddr {
        self.host(1)
    }

    /// Address of the client.
    pub const fn client(self) -> IpAddr {
        self.host(2)
    }

    /// An unused address in the same network, for a client on a packet socket.
    ///
    /// # Panics
    ///
    /// `number` is over 199.
    pub const fn spare(self, number: u8) -> IpAddr {
        assert!(number < 200, "the network has 200 spare addresses");
        self.host(50 + number)
    }

    /// A service's virtual address, in no network of the pair.
    pub const fn vip(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(198, 51, 100, 7)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0x2001, 0xdb8, 0x100, 0, 0, 0, 0, 7)),
        }
    }

    /// 0.0.0.0 or `::`.
    pub const fn unspecified(self) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
            Self::V6 => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
        }
    }

    const fn host(self, number: u8) -> IpAddr {
        match self {
            Self::V4 => IpAddr::V4(Ipv4Addr::new(10, 77, 0, number)),
            Self::V6 => IpAddr::V6(Ipv6Addr::new(0xfd77, 0, 0, 0, 0, 0, 0, number as u16)),
        }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// A client and a server, joined by veth or by a delay line.
#[derive(Debug)]
pub struct Pair {
    /// Declared first, since its thread uses the namespaces.
    _line: Option<Line>,
    /// Namespace of the client.
    pub client: Netns,
    /// Namespace of the server.
    pub server: Netns,
}

impl Pair {
    /// Joins a client and a server by one veth pair.
    ///
    /// # Errors
    ///
    /// The caller lacks privileges, or `ip` is not installed.
    pub fn new() -> Result<Self> {
        let (client, server) = (host("client")?, host("server")?);
        client.configure(&[format!(
            "link add {CLIENT_INTERFACE} type veth peer name {SERVER_INTERFACE} netns {}",
            server.name()
        )])?;
        Self::join(client, server, None)
    }

    /// Joins a client and a server by a [`Line`] that delays every frame by `one_way`.
    ///
    /// # Errors
    ///
    /// As [`Pair::new`].
    pub fn delayed(one_way: Duration) -> Result<Self> {
        Self::through(one_way, Box::new(|_, _| true))
    }

    /// As [`Pair::delayed`], with a middlebox on the way, whose end 0 is the client's.
    ///
    /// # Errors
    ///
    /// As [`Pair::new`].
    pub fn through(one_way: Duration, middlebox: Middlebox) -> Result<Self> {
        let (client, server) = (host("client")?, host("server")?);
        let line = Line::between(
            (&client, CLIENT_INTERFACE),
            (&server, SERVER_INTERFACE),
            one_way,
            middlebox,
        )?;
        // The line does not segment, so no host may send GSO frames.
        for (netns, interface) in [(&client, CLIENT_INTERFACE), (&server, SERVER_INTERFACE)] {
            netns.configure(&[format!("link set {interface} gso_max_segs 1")])?;
        }
        Self::join(client, server, Some(line))
    }

    fn join(client: Netns, server: Netns, line: Option<Line>) -> Result<Self> {
        let [client_mac, server_mac] = [CLIENT_MAC, SERVER_MAC].map(show);
        let [client4, client6] = Family::BOTH.map(Family::client);
        let [server4, server6] = Family::BOTH.map(Family::server);
        for (netns, interface, mac, addresses, peer_mac, peers) in [
            (
                &client,
                CLIENT_INTERFACE,
                &client_mac,
                [client4, client6],
                &server_mac,
                [server4, server6],
            ),
            (
                &server,
                SERVER_INTERFACE,
                &server_mac,
                [server4, server6],
                &client_mac,
                [client4, client6],
            ),
        ] {
            let [v4, v6] = addresses;
            let [peer4, peer6] = peers;
            netns.configure(&[
                format!("link set {interface} address {mac}"),
                format!("link set {interface} up"),
                format!("addr add {v4}/24 dev {interface}"),
                format!("addr add {v6}/64 dev {interface} nodad"),
                format!("neigh replace {peer4} lladdr {peer_mac} dev {interface} nud permanent"),
                format!("neigh replace {peer6} lladdr {peer_mac} dev {interface} nud permanent"),
            ])?;
        }
        wait_until_up(&client, CLIENT_INTERFACE)?;
        wait_until_up(&server, SERVER_INTERFACE)?;
        if let Some(line) = &line {
            line.wait_until_up()?;
        }
        Ok(Self {
            _line: line,
            client,
            server,
        })
    }

    /// Adds a permanent neighbour to the server.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn set_neighbour(&self, address: IpAddr, mac: Mac) -> Result<()> {
        self.set_neighbours([address], mac)
    }

    /// As [`Self::set_neighbour`], of several addresses.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn set_neighbours(
        &self,
        addresses: impl IntoIterator<Item = IpAddr>,
        mac: Mac,
    ) -> Result<()> {
        let of = |address| {
            let mac = show(mac);
            format!("neigh replace {address} lladdr {mac} dev {SERVER_INTERFACE} nud permanent")
        };
        let commands: Vec<_> = addresses.into_iter().map(of).collect();
        self.server.configure(&commands)
    }

    /// Diverts the server's replies to [`NOBODYS_MAC`] until the value is dropped.
    ///
    /// No handshake completes meanwhile, so any data that the server has came in a SYN. Both sides retransmit after
    /// about a second.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn hold_replies(&self, family: Family) -> Result<HeldReplies<'_>> {
        self.set_neighbour(family.client(), NOBODYS_MAC)?;
        Ok(HeldReplies { pair: self, family })
    }

    /// The cookie that the client's kernel caches for the server (`ip tcp_metrics`).
    ///
    /// # Errors
    ///
    /// `ip` fails, or its output is not understood.
    pub fn cached_cookie(&self, family: Family) -> Result<Option<[u8; 8]>> {
        let metrics = self.metrics(family)?;
        let mut words = metrics.split_whitespace();
        if !words.any(|word| word == "fo_cookie") {
            return Ok(None);
        }
        words
            .next()
            .filter(|word| word.len() == 16)
            .and_then(|word| u64::from_str_radix(word, 16).ok())
            .map(|cookie| Some(cookie.to_be_bytes()))
            .with_context(|| format!("no cookie of 8 bytes in {metrics:?}"))
    }

    /// Checks that the client's kernel caches a cookie for the server.
    ///
    /// # Errors
    ///
    /// The client has no cookie, or `ip` fails.
    pub fn ensure_cookie(&self, family: Family) -> Result<()> {
        let metrics = self.metrics(family)?;
        let cookie = self.cached_cookie(family)?;
        cookie
            .map(drop)
            .with_context(|| format!("the client has no {family} cookie: {metrics:?}"))
    }

    /// The client's line of `ip tcp_metrics show` for the server; empty if there is none.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn metrics(&self, family: Family) -> Result<String> {
        let metrics = self.client.ip(&["tcp_metrics", "show"])?;
        let server = family.server().to_string();
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.split(' ').next() == Some(&server));
        Ok(line.unwrap_or_default().to_owned())
    }

    /// Flushes the client's TCP metrics, cookies included.
    ///
    /// # Errors
    ///
    /// `ip` fails.
    pub fn forget_cookies(&self) -> Result<()> {
        self.client.ip(&["tcp_metrics", "flush"]).map(drop)
    }
}

/// Guard of [`Pair::hold_replies`].
#[derive(Debug)]
#[must_use = "replies reach the client again when it is dropped"]
pub struct HeldReplies<'a> {
    pair: &'a Pair,
    family: Family,
}

impl Drop for HeldReplies<'_> {
    fn drop(&mut self) {
        let client = self.family.client();
        if let Err(error) = self.pair.set_neighbour(client, CLIENT_MAC) {
            eprintln!("cannot restore the neighbour {client}: {error:#}");
        }
    }
}

/// Socket address of `port` on the server.
pub const fn server_port(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.server(), port)
}

/// A namespace with Fast Open on and without unsolicited traffic.
fn host(label: &str) -> Result<Netns> {
    let netns = Netns::new(label)?;
    for (key, value) in [
        // Fast Open as client and as server.
        ("net.ipv4.tcp_fastopen", "3"),
        // Otherwise a failed connection disables Fast Open at the client for an hour.
        ("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "0"),
        // No link-local addresses, and so no router solicitations and MLD reports.
        ("net.ipv6.conf.default.addr_gen_mode", "1"),
        // One MLD report when the address is added, and no repetition.
        (
            "net.ipv6.conf.default.mldv2_unsolicited_report_interval",
            "100000000",
        ),
    ] {
        netns.set_sysctl(key, value)?;
    }
    Ok(netns)
}

fn show(mac: Mac) -> String {
    mac.map(|byte| format!("{byte:02x}")).join(":")
}
