//! A host that also forwards or bridges: its own listener at the same port has nothing to do with the connections of the
//! hosts behind it.

use std::net::{IpAddr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter;
use tfo_testbed::{
    netns::Netns,
    socket::{Connection, Listener, Method},
    tfo::Tfo,
};

const PORT: u16 = 8080;
const REQUEST: &[u8] = b"who answers?";
/// The server's Fast Open key is not the host's.
const KEY: &str = "00112233-44556677-8899aabb-ccddeeff";

/// The way through the host to the server.
#[derive(Clone, Copy, Debug)]
pub(super) enum Setting {
    /// By the host's routing.
    Router,
    /// By a bridge, whose port the interface is.
    Bridge,
    /// By a macvlan device on the interface.
    Macvlan,
}

/// A client, the host with `tfo` on `host0`, and a server behind it.
pub(super) struct Net {
    pub(super) client: Netns,
    pub(super) host: Netns,
    pub(super) server: Netns,
    setting: Setting,
}

impl Net {
    pub(super) fn new(setting: Setting) -> Result<Self> {
        let net = Self {
            client: Netns::new("client")?,
            host: Netns::new("host")?,
            server: Netns::new("server")?,
            setting,
        };
        let Self {
            client,
            host,
            server,
            ..
        } = &net;
        // A router asks for neighbours from its own address of the link, which has to be there.
        for netns in [client, host, server] {
            netns.set_sysctl("net.ipv6.conf.default.accept_dad", "0")?;
        }
        client.configure(&[
            format!(
                "link add client0 type veth peer name host0 netns {}",
                host.name()
            ),
            "link set client0 up".to_owned(),
            "addr add 10.78.0.2/24 dev client0".to_owned(),
            "addr add fd78::2/64 dev client0 nodad".to_owned(),
        ])?;
        let to_server = match setting {
            Setting::Macvlan => format!(
                "link add link host0 name server0 netns {} type macvlan mode bridge",
                server.name()
            ),
            _ => format!(
                "link add host1 type veth peer name server0 netns {}",
                server.name()
            ),
        };
        host.configure(&["link set host0 up".to_owned(), to_server])?;
        let host_device = match setting {
            Setting::Bridge => {
                host.configure(&[
                    "link add br0 type bridge",
                    "link set br0 up",
                    "link set host1 up",
                    "link set host0 master br0",
                    "link set host1 master br0",
                ])?;
                "br0"
            }
            _ => "host0",
        };
        host.configure(&[
            format!("addr add 10.78.0.1/24 dev {host_device}"),
            format!("addr add fd78::1/64 dev {host_device} nodad"),
        ])?;
        server.configure(&["link set server0 up"])?;
        net.address_server()?;
        server.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        server.set_sysctl("net.ipv4.tcp_fastopen_key", KEY)?;
        host.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        Ok(net)
    }

    fn address_server(&self) -> Result<()> {
        let Self {
            client,
            host,
            server,
            ..
        } = self;
        if !matches!(self.setting, Setting::Router) {
            return server.configure(&[
                "addr add 10.78.0.3/24 dev server0",
                "addr add fd78::3/64 dev server0 nodad",
            ]);
        }
        host.configure(&[
            "link set host1 up",
            "addr add 10.79.0.1/24 dev host1",
            "addr add fd79::1/64 dev host1 nodad",
        ])?;
        for key in ["net.ipv4.ip_forward", "net.ipv6.conf.all.forwarding"] {
            host.set_sysctl(key, "1")?;
        }
        client.configure(&[
            "route add default via 10.78.0.1",
            "route add default via fd78::1",
        ])?;
        server.configure(&[
            "addr add 10.79.0.2/24 dev server0",
            "addr add fd79::2/64 dev server0 nodad",
            "route add default via 10.79.0.1",
            "route add default via fd79::1",
        ])
    }

    fn server_addresses(&self) -> [SocketAddr; 2] {
        let addresses: [IpAddr; 2] = match self.setting {
            Setting::Router => ["10.79.0.2", "fd79::2"],
            _ => ["10.78.0.3", "fd78::3"],
        }
        .map(|address| address.parse().expect("an address"));
        addresses.map(|address| SocketAddr::new(address, PORT))
    }

    /// Connects to the server, and checks that it answers. Gives whether the request was in the SYN.
    fn visit(&self, listener: &Listener, server: SocketAddr, method: Method) -> Result<bool> {
        let client = Connection::open(&self.client, server, method, REQUEST)?;
        let accepted = listener.accept()?;
        ensure!(accepted.receive()? == REQUEST);
        accepted.send(b"I do")?;
        ensure!(client.receive()? == b"I do");
        Ok(client.info()?.syn_data_taken)
    }

    /// A plain connection, one that asks for a cookie, and one that uses it.
    fn visits(&self, listener: &Listener) -> Result<()> {
        for server in self.server_addresses() {
            self.client.ip(&["tcp_metrics", "flush"])?;
            self.visit(listener, server, Method::Plain)
                .context("plain")?;
            let asked = self
                .visit(listener, server, Method::SendTo)
                .context("request")?;
            let used = self
                .visit(listener, server, Method::SendTo)
                .context("cookie")?;
            ensure!(!asked && used, "{server}: in the SYN {asked}, {used}");
        }
        Ok(())
    }
}

fn any() -> SocketAddr {
    SocketAddr::new(IpAddr::V6(0.into()), PORT)
}

/// The connections of others are left alone, counted by nobody, and go on when rules come into force.
fn check(setting: Setting, mode: &str) -> Result<()> {
    let net = Net::new(setting)?;
    let _own = Listener::fast_open(&net.host, any())?;
    let listener = Listener::fast_open(&net.server, any())?;
    net.visits(&listener).context("without tfo")?;

    let tfo = Tfo::new(&net.host);
    tfo.done(&["attach", "host0", "--mode", mode])?;
    let open = Connection::open(
        &net.client,
        net.server_addresses()[0],
        Method::Plain,
        REQUEST,
    )?;
    let accepted = listener.accept()?;
    ensure!(accepted.receive()? == REQUEST);
    for rules in RULES {
        let set = tfo.run(rules)?;
        if !set.status.success() {
            // A guard that cannot work there is refused: the refusal names the interface.
            set.ensure_refused(&["host0"])?;
        }
        net.visits(&listener)
            .with_context(|| format!("{rules:?}"))?;
        open.send(REQUEST)?;
        ensure!(accepted.receive()? == REQUEST, "an open connection hangs");
    }
    let stats = tfo.stats()?;
    for counter in [
        Counter::Passive,
        Counter::CookieReqd,
        Counter::PassiveFail,
        Counter::GuardChallenged,
        Counter::GuardAccepted,
    ] {
        let seen = stats.counters[counter.name()];
        ensure!(seen == 0, "{} {seen}", counter.name());
    }
    ensure!(stats.counters["Elsewhere"] >= 4, "{stats:?}");
    Ok(())
}

/// Commands that an operator may run on the host.
const RULES: [&[&str]; 4] = [
    &["status"],
    &[
        "policy",
        "set",
        "--port",
        "8080",
        "--bad",
        "drop",
        "--request",
        "drop",
        "--data",
        "drop",
    ],
    &[
        "policy", "set", "--port", "8080", "--bad", "reissue", "--valid", "fallback",
    ],
    &["guard", "set", "on"],
];

fn check_all(setting: Setting) -> Result<()> {
    for mode in ["native", "generic", "tc"] {
        check(setting, mode).with_context(|| format!("{setting:?}, {mode}"))?;
    }
    Ok(())
}

#[test]
fn a_router_leaves_the_hosts_behind_it_alone() -> Result<()> {
    check_all(Setting::Router)
}

#[test]
fn a_bridge_leaves_the_hosts_behind_it_alone() -> Result<()> {
    check_all(Setting::Bridge)
}

#[test]
fn containers_with_macvlan_are_left_alone() -> Result<()> {
    check_all(Setting::Macvlan)
}
