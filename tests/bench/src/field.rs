//! Topology of the flood benchmark, and the defences it compares.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result, ensure};
use aya::programs::XdpMode;
use tfo_common::{
    policy::{Action, Class},
    rate::Rate,
};
use tfo_testbed::{
    netns::{Netns, wait_until_up},
    packet::{Segment, fast_open},
    testbed::{REQUEST, Testbed},
    tfo::Tfo,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE, server_port},
    xdp::Mode,
};
use tfo_userspace::{
    datapath::Namespace,
    model::{Policy, PortPolicy},
};

use crate::peers::Peer;

/// The generator's end of its veth pair, and the server's.
const GENERATOR: &str = "flood0";
const FLOODED: &str = "server1";
const GENERATOR_ADDRESS: &str = "10.78.0.2";
/// A rate that a SYN queue sustains: each entry stays for a minute.
const FEW: Rate = Rate {
    per_second: 10,
    burst: 10,
};

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

    /// Defences to measure against it.
    pub(crate) const fn defences(self) -> &'static [Defence] {
        match self {
            Self::Plain => &[
                Defence::NoFlood,
                Defence::Kernel,
                Defence::Synproxy,
                Defence::Guard(Mode::Native),
                Defence::Guard(Mode::Generic),
                Defence::Guard(Mode::Tc),
            ],
            Self::Cookies => &[
                Defence::NoFlood,
                Defence::Kernel,
                Defence::Nftables,
                Defence::Tfo(Action::Drop, Rate::UNLIMITED),
                Defence::Tfo(Action::Reissue, FEW),
                Defence::Guard(Mode::Native),
                Defence::Guard(Mode::Tc),
            ],
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

/// MSS, SACK permitted, timestamps and window scale in Linux's order.
pub(crate) const USUAL_OPTIONS: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];

/// A defence against a flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defence {
    /// No flood: the baseline.
    NoFlood,
    Kernel,
    Nftables,
    /// nftables' `synproxy`.
    Synproxy,
    /// A `tfo` policy for invalid cookies: the action, and its limit per port.
    Tfo(Action, Rate),
    /// `tfo guard` in this mode.
    Guard(Mode),
}

impl Defence {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoFlood => "no flood",
            Self::Kernel => "the kernel alone",
            Self::Nftables => "nftables, 10,000 such SYNs a second",
            Self::Synproxy => "nftables, synproxy",
            Self::Guard(Mode::Native) => "tfo guard, native XDP",
            Self::Guard(Mode::Generic) => "tfo guard, generic XDP",
            Self::Guard(Mode::Tc) => "tfo guard, tc",
            Self::Tfo(Action::Drop, _) => "tfo, bad = drop",
            Self::Tfo(..) => "tfo, bad = reissue, 10 a second",
        }
    }

    pub(crate) fn raise(self, field: &Field) -> Result<()> {
        let server = &field.testbed.pair.server;
        match self {
            Self::NoFlood | Self::Kernel => Ok(()),
            Self::Nftables => server.done("nft", &[NFTABLES]).map(drop),
            Self::Synproxy => {
                // Otherwise conntrack takes the ACK that returns the SYN cookie for an established connection.
                server.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
                server.done("nft", &[SYNPROXY]).map(drop)
            }
            Self::Guard(mode) => {
                field.attach(mode)?;
                // veth drops an XDP_TX frame unless the peer has an XDP program. With the other defences, a program
                // here would keep the flood from a server without XDP.
                if mode == Mode::Native {
                    let native = ["attach", GENERATOR, "--mode", "native"];
                    field.receiving.done(&native)?;
                }
                // All legitimate clients share one source address.
                let rates = ["--replies", "1000000/s", "--proven", "1000000/s"];
                let set = [&["guard", "set", "on"][..], &rates].concat();
                field.tfo.done(&set).map(drop)
            }
            Self::Tfo(action, rate) => {
                field.attach(Mode::Native)?;
                let mut port = PortPolicy::default();
                port.actions[Class::Bad as usize] = action;
                port.limits[Class::Bad as usize].port = rate;
                let policy = Policy {
                    default: port,
                    ..Policy::default()
                };
                server.run(|| {
                    let namespace = Namespace::current()?;
                    namespace.policy().change()?.apply(Some(&policy))?;
                    Ok(())
                })
            }
        }
    }

    /// Checks that `tfo` saw at least 90 % of the `sent` SYNs. The other defences have no counter to check.
    pub(crate) fn met(self, field: &Field, sent: u64) -> Result<()> {
        let counter = match self {
            Self::NoFlood | Self::Kernel | Self::Nftables | Self::Synproxy => return Ok(()),
            Self::Tfo(..) => "Syns",
            Self::Guard(_) => "GuardChallenged",
        };
        let met = field.tfo.stats()?.counters.get(counter).copied();
        ensure!(
            met.is_some_and(|met| met as f64 >= 0.9 * sent as f64),
            "{counter} is {met:?} after a flood of {sent} SYNs: the SYNs are malformed or lost on the veth pair"
        );
        Ok(())
    }

    pub(crate) fn lower(self, field: &Field) -> Result<()> {
        let server = &field.testbed.pair.server;
        match self {
            Self::NoFlood | Self::Kernel => Ok(()),
            Self::Nftables | Self::Synproxy => {
                server.done("nft", &["delete table inet bench"]).map(drop)
            }
            Self::Tfo(..) | Self::Guard(_) => {
                field.receiving.done(&["detach", "--all"])?;
                field.tfo.done(&["detach", "--all"]).map(drop)
            }
        }
    }
}

/// nftables does not verify cookies, so it can only limit the rate of such SYNs.
const NFTABLES: &str = "table inet bench {\n\
    chain c { type filter hook prerouting priority raw; policy accept;\n\
    tcp flags & (syn | ack) == syn tcp option fastopen exists limit rate over 10000/second drop\n\
    }\n}";

/// Answers untracked SYNs with a SYN cookie, then opens the connection to the server. Timestamps are off: with them,
/// about 1 % of connections to a server on the same host stall for 1.6 seconds on Linux 6.18, even without a flood.
const SYNPROXY: &str = "table inet bench {\n\
    synproxy s {\n mss 1460\n wscale 7\n sack-perm\n}\n\
    chain p { type filter hook prerouting priority raw; policy accept; tcp flags syn notrack; }\n\
    chain i { type filter hook input priority filter; policy accept;\n\
    meta l4proto tcp ct state invalid,untracked synproxy name \"s\"\n\
    meta l4proto tcp ct state invalid drop\n\
    }\n}";

/// A server, a legitimate client, and a generator on a second veth pair.
pub(crate) struct Field {
    // Declared, and so dropped, before the namespaces that they detach from.
    tfo: Tfo,
    /// `tfo` in the generator's namespace.
    receiving: Tfo,
    pub(crate) testbed: Testbed,
    pub(crate) generator: Netns,
    pub(crate) flood: Peer,
    index: u32,
    /// An empty program on the client's interface: veth drops an `XDP_TX` frame unless the peer has an XDP program.
    _receiver: Peer,
}

impl Field {
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
            testbed,
            generator,
            flood,
            index,
            _receiver: receiver,
        })
    }

    /// Attaches `tfo` to both interfaces.
    fn attach(&self, mode: Mode) -> Result<()> {
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
