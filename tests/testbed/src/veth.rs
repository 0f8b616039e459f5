//! Two hosts and a wire: a client's and a server's namespace, joined by veth.
//!
//! Nothing on the wire is left to chance: addresses are usable at once, neighbours are known for good,
//! and no host speaks of its own accord, so what is counted is what a test sent.

use std::{
    fmt,
    net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr},
    time::Duration,
};

use anyhow::{Context as _, Result};

use crate::{
    delay::Line,
    netns::{Netns, wait_until_up},
};

/// An Ethernet address.
pub type Mac = [u8; 6];

/// The client's interface, in its namespace.
pub const CLIENT_INTERFACE: &str = "client0";
/// The server's interface, in its namespace: where the accelerator goes.
pub const SERVER_INTERFACE: &str = "server0";
/// The client's Ethernet address.
pub const CLIENT_MAC: Mac = [2, 0, 0, 0, 0, 2];
/// The server's Ethernet address.
pub const SERVER_MAC: Mac = [2, 0, 0, 0, 0, 1];
/// An Ethernet address that no host has: hosts pass over frames for it, packet sockets see them.
pub const NOBODYS_MAC: Mac = [2, 0, 0, 0, 0, 0x99];

/// IPv4 or IPv6.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

impl Family {
    /// Both.
    pub const BOTH: [Self; 2] = [Self::V4, Self::V6];

    /// The server's address.
    pub const fn server(self) -> IpAddr {
        self.host(1)
    }

    /// The client's address.
    pub const fn client(self) -> IpAddr {
        self.host(2)
    }

    /// An address on the wire's network that no host has, for a crafted client; the same for the same
    /// `number`.
    ///
    /// # Panics
    ///
    /// Where `number` is over 199.
    pub const fn spare(self, number: u8) -> IpAddr {
        assert!(number < 200, "the network has 200 spare addresses");
        self.host(50 + number)
    }

    /// Any local address, to listen on.
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

/// A client and a server, joined by a wire.
#[derive(Debug)]
pub struct Pair {
    /// Stops first, as its threads use the namespaces.
    line: Option<Line>,
    /// The client's host.
    pub client: Netns,
    /// The server's host.
    pub server: Netns,
}

impl Pair {
    /// Joins a client and a server by one veth pair.
    ///
    /// # Errors
    ///
    /// Where the caller may not, or `ip` is not installed.
    pub fn new() -> Result<Self> {
        let (client, server) = (host("client")?, host("server")?);
        client.configure(&[format!(
            "link add {CLIENT_INTERFACE} type veth peer name {SERVER_INTERFACE} netns {}",
            server.name()
        )])?;
        Self::join(client, server, None)
    }

    /// Joins a client and a server by a line that holds every frame for `one_way`.
    ///
    /// # Errors
    ///
    /// As [`Pair::new`].
    pub fn delayed(one_way: Duration) -> Result<Self> {
        let (client, server) = (host("client")?, host("server")?);
        let line = Line::between(
            (&client, CLIENT_INTERFACE),
            (&server, SERVER_INTERFACE),
            one_way,
        )?;
        // The line carries frames as they are, so no host may send one that is yet to be cut in pieces.
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
            line,
            client,
            server,
        })
    }

    /// How long the wire holds a frame, beside what the kernel takes.
    pub fn one_way(&self) -> Duration {
        self.line.as_ref().map_or(Duration::ZERO, Line::one_way)
    }

    /// Makes the server send frames for `address` to `mac`.
    ///
    /// # Errors
    ///
    /// Where `ip` fails.
    pub fn set_neighbour(&self, address: IpAddr, mac: Mac) -> Result<()> {
        self.server.configure(&[format!(
            "neigh replace {address} lladdr {} dev {SERVER_INTERFACE} nud permanent",
            show(mac)
        )])
    }

    /// Keeps the server's replies from the client until the value is dropped.
    ///
    /// They leave for a host that does not exist. So no handshake ends meanwhile, and whatever the
    /// server has by then came in the SYN. Both sides try again after about a second.
    ///
    /// # Errors
    ///
    /// Where `ip` fails.
    pub fn hold_replies(&self, family: Family) -> Result<HeldReplies<'_>> {
        self.set_neighbour(family.client(), NOBODYS_MAC)?;
        Ok(HeldReplies { pair: self, family })
    }

    /// The cookie that the client would present to the server.
    ///
    /// # Errors
    ///
    /// Where `ip` fails or shows something else than expected.
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

    /// What the client's kernel remembers of the server, in words of `ip`; empty for nothing.
    ///
    /// # Errors
    ///
    /// Where `ip` fails.
    pub fn metrics(&self, family: Family) -> Result<String> {
        let metrics = self.client.ip(&["tcp_metrics", "show"])?;
        let server = family.server().to_string();
        let mut lines = metrics.lines();
        let line = lines.find(|line| line.split(' ').next() == Some(&server));
        Ok(line.unwrap_or_default().to_owned())
    }

    /// Makes the client forget its cookies, and what it learnt about the path.
    ///
    /// # Errors
    ///
    /// Where `ip` fails.
    pub fn forget_cookies(&self) -> Result<()> {
        self.client.ip(&["tcp_metrics", "flush"]).map(drop)
    }
}

/// Keeps the server's replies from the client; see [`Pair::hold_replies`].
#[derive(Debug)]
#[must_use = "replies pass again when it is dropped"]
pub struct HeldReplies<'a> {
    pair: &'a Pair,
    family: Family,
}

impl Drop for HeldReplies<'_> {
    fn drop(&mut self) {
        let client = self.family.client();
        if let Err(error) = self.pair.set_neighbour(client, CLIENT_MAC) {
            eprintln!("replies to {client} stay held: {error:#}");
        }
    }
}

/// The socket address of `port` on the server.
pub const fn server_port(family: Family, port: u16) -> SocketAddr {
    SocketAddr::new(family.server(), port)
}

/// A namespace whose host speaks only when asked to, and speaks Fast Open.
fn host(label: &str) -> Result<Netns> {
    let netns = Netns::new(label)?;
    for (key, value) in [
        // Fast Open, as client and as server.
        ("net.ipv4.tcp_fastopen", "3"),
        // A connection that fails does not make the client do without for an hour.
        ("net.ipv4.tcp_fastopen_blackhole_timeout_sec", "0"),
        // No link-local addresses, and so no router solicitations and listener reports.
        ("net.ipv6.conf.default.addr_gen_mode", "1"),
        // One listener report when the address is added, and no repetition.
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
