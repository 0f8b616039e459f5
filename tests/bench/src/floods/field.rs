//! Topology of the flood benchmark.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use aya::programs::XdpMode;
use tfo_testbed::{
    kernel::TcpExt,
    keys,
    netns::{Netns, wait_until_up},
    packet::{Segment, fast_open},
    socket::Listener,
    testbed::{REQUEST, Testbed},
    tfo::Tfo,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE, server_port},
    xdp::Mode,
};

use crate::{cases::USUAL_OPTIONS, peers::Peer};

/// The generator's end of its veth pair, and the server's.
pub(crate) const GENERATOR: &str = "flood0";
const FLOODED: &str = "server1";
const GENERATOR_ADDRESS: &str = "10.78.0.2";
/// The interface of a host behind the server.
pub(crate) const HOST: &str = "host0";
/// The SYNs of a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// SYNs with data and a random cookie.
    Cookies,
    /// SYNs without a Fast Open option.
    Plain,
}

impl Flood {
    pub(crate) const ALL: [Self; 2] = [Self::Plain, Self::Cookies];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Cookies => "SYNs with data and random cookies",
            Self::Plain => "plain SYNs",
        }
    }

    /// The template that the generator modifies.
    fn frame(self, port: u16) -> Vec<u8> {
        let from: SocketAddr = (Ipv4Addr::new(198, 18, 0, 0), 1024).into();
        let segment = Segment::syn(from, server_port(Family::V4, port));
        match self {
            Self::Cookies => segment.options(&fast_open(&[0; 8])).data(REQUEST),
            Self::Plain => segment.options(&USUAL_OPTIONS),
        }
        .frame()
        .to_vec()
    }
}

/// A server, a legitimate client, and a generator on a second veth pair. The server may be an edge, with the service on a
/// host behind it.
pub(crate) struct Field {
    // Declared, and so dropped, before the namespaces that they detach from.
    pub(crate) tfo: Tfo,
    /// `tfo` in the generator's namespace.
    pub(crate) receiving: Tfo,
    pub(crate) behind: Option<Behind>,
    pub(crate) testbed: Testbed,
    pub(crate) generator: Netns,
    pub(crate) flood: Peer,
    index: u32,
    /// An empty program on the client's interface: veth drops an `XDP_TX` frame unless the peer has an XDP program.
    _receiver: Peer,
}

/// The host behind an edge.
pub(crate) struct Behind {
    pub(crate) tfo: Tfo,
    netns: Netns,
}

impl Behind {
    /// Moves the address of `edge` to a host behind it.
    fn new(edge: &Netns) -> Result<Self> {
        let netns = Netns::new("host")?;
        let service = Family::V4.server();
        netns.configure(&[
            format!("link add {HOST} address 02:00:00:00:00:22 type veth peer name back0 address 02:00:00:00:00:21 netns {}", edge.name()),
            format!("link set {HOST} up"),
            "link set lo up".into(),
            format!("addr add 10.79.0.2/24 dev {HOST}"),
            format!("addr add {service}/32 dev lo"),
            "route add default via 10.79.0.1".into(),
            format!("neigh replace 10.79.0.1 lladdr 02:00:00:00:00:21 dev {HOST} nud permanent"),
        ])?;
        edge.configure(&[
            format!("addr del {service}/24 dev {SERVER_INTERFACE}"),
            format!("addr add 10.77.0.254/24 dev {SERVER_INTERFACE}"),
            "link set back0 up".into(),
            "addr add 10.79.0.1/24 dev back0".into(),
            "neigh replace 10.79.0.2 lladdr 02:00:00:00:00:22 dev back0 nud permanent".into(),
            format!("route add {service} via 10.79.0.2"),
        ])?;
        edge.set_sysctl("net.ipv4.ip_forward", "1")?;
        netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        for netns in [edge, &netns] {
            netns.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
        }
        wait_until_up(&netns, HOST)?;
        Ok(Self {
            tfo: Tfo::new(&netns),
            netns,
        })
    }
}

impl Field {
    /// As [`Self::new`], with the service behind the server.
    pub(crate) fn with_host_behind() -> Result<Self> {
        let mut field = Self::new()?;
        field.behind = Some(Behind::new(&field.testbed.pair.server)?);
        Ok(field)
    }

    /// The namespace of the service.
    fn service(&self) -> &Netns {
        match &self.behind {
            Some(behind) => &behind.netns,
            None => &self.testbed.pair.server,
        }
    }

    pub(crate) fn listen(&self) -> Result<Listener> {
        let any = SocketAddr::new(Family::V4.unspecified(), 0);
        Listener::fast_open(self.service(), any)
    }

    /// `TCPFastOpenPassive` of the service's kernel.
    pub(crate) fn passive(&self) -> Result<u64> {
        Ok(TcpExt::read(self.service())?.get("TCPFastOpenPassive"))
    }

    /// Segments that reached the service's TCP.
    pub(crate) fn segments(&self) -> Result<u64> {
        self.service().snmp("Tcp", "InSegs")
    }

    pub(crate) fn new() -> Result<Self> {
        let flood = Peer::flood()?;
        let testbed = Testbed::idle(Pair::new()?)?;
        let server = &testbed.pair.server;
        let generator = Netns::new("flood")?;
        generator.configure(&[format!(
            "link add {GENERATOR} type veth peer name {FLOODED} netns {}",
            server.name()
        )])?;
        generator.configure(&[
            format!("link set {GENERATOR} address 02:00:00:00:00:12"),
            format!("link set {GENERATOR} up"),
        ])?;
        server.configure(&[
            // Frames are addressed to the other interface's MAC address.
            format!("link set {FLOODED} address 02:00:00:00:00:01"),
            format!("link set {FLOODED} up"),
            format!("addr add 10.78.0.1/24 dev {FLOODED}"),
            format!("neigh replace {GENERATOR_ADDRESS} lladdr 02:00:00:00:00:12 dev {FLOODED} nud permanent"),
            format!("route add 198.18.0.0/15 via {GENERATOR_ADDRESS} dev {FLOODED}"),
        ])?;
        wait_until_up(server, FLOODED)?;
        for interface in ["all", FLOODED] {
            server.set_sysctl(&format!("net.ipv4.conf.{interface}.rp_filter"), "0")?;
        }
        // veth accepts redirected frames only with NAPI, which GRO or an XDP program enables.
        server.done("ethtool", &["-K", FLOODED, "gro", "on"])?;
        let index = generator.ip(&["-o", "link", "show", GENERATOR])?;
        let index = index.split(':').next().unwrap_or_default().trim();
        let index = index.parse().context("ip shows no index")?;
        let mut receiver = Peer::empty()?;
        attach(&mut receiver, &testbed.pair.client, CLIENT_INTERFACE)?;
        Ok(Self {
            tfo: Tfo::new(server),
            receiving: Tfo::new(&generator),
            behind: None,
            testbed,
            generator,
            flood,
            index,
            _receiver: receiver,
        })
    }

    /// Attaches `tfo` to both interfaces.
    pub(crate) fn attach(&self, mode: Mode) -> Result<()> {
        let mode = mode.to_string();
        let attach = ["attach", SERVER_INTERFACE, FLOODED, "--mode", &mode];
        self.tfo.done(&attach).map(drop)
    }

    /// Configures the generator to flood `port`. Returns the frame to run it on.
    pub(crate) fn prepare(&mut self, flood: Flood, port: u16) -> Result<Vec<u8>> {
        let mut frame = flood.frame(port);
        self.flood
            .send_from(self.index, flood == Flood::Cookies, &frame)?;
        frame.push(0);
        Ok(frame)
    }
}

/// Attaches a program in driver mode; it is detached on drop.
fn attach(program: &mut Peer, netns: &Netns, interface: &str) -> Result<()> {
    let xdp = program.xdp_mut()?;
    netns
        .run(|| xdp.attach(interface, XdpMode::Driver))
        .with_context(|| format!("cannot attach an XDP program to {interface} in driver mode"))?;
    Ok(())
}
