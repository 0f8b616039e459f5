//! Where floods are tried, and what stands against them.

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
};
use tfo_userspace::{
    datapath::Namespace,
    model::{Policy, PortPolicy},
};

use crate::peers::Peer;

/// The generator's end of its wire, and the server's.
const GENERATOR: &str = "flood0";
const FLOODED: &str = "server1";
const GENERATOR_ADDRESS: &str = "10.78.0.2";
/// As many as a SYN queue can bear: each stays in it for a minute.
const FEW: Rate = Rate {
    per_second: 10,
    burst: 10,
};

/// What the flood is made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Flood {
    /// SYNs with data and a random cookie.
    Cookies,
    /// Ordinary SYNs.
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

    /// What is tried against it.
    pub(crate) const fn defences(self) -> &'static [Defence] {
        match self {
            Self::Plain => &[
                Defence::NoFlood,
                Defence::Kernel,
                Defence::Synproxy,
                Defence::Guard,
            ],
            Self::Cookies => &[
                Defence::NoFlood,
                Defence::Kernel,
                Defence::Nftables,
                Defence::Tfo(Action::Drop, Rate::UNLIMITED),
                Defence::Tfo(Action::Reissue, FEW),
                Defence::Guard,
            ],
        }
    }

    /// The frame that it is made of.
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

/// The most segment size, SACK, a timestamp and the window's scale, as Linux has them.
pub(crate) const USUAL_OPTIONS: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];

/// What stands against the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defence {
    /// There is no flood.
    NoFlood,
    Kernel,
    Nftables,
    /// nftables answers SYNs in the place of the kernel.
    Synproxy,
    /// What `tfo` does with bad cookies, and how many of them it lets pass so.
    Tfo(Action, Rate),
    /// `tfo guard`.
    Guard,
}

impl Defence {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoFlood => "no flood",
            Self::Kernel => "the kernel alone",
            Self::Nftables => "nftables, 10,000 such SYNs a second",
            Self::Synproxy => "nftables, synproxy",
            Self::Guard => "tfo guard",
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
                // Or the ACK that brings the cookie back would pass for one of a connection under way.
                server.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
                server.done("nft", &[SYNPROXY]).map(drop)
            }
            Self::Guard => {
                field.tfo.done(&["attach", SERVER_INTERFACE, FLOODED])?;
                // What XDP sends back arrives only where XDP receives, too. At other times, it would keep the
                // flood from a server without XDP.
                field.receiving.done(&["attach", GENERATOR])?;
                // All honest clients are one source here.
                let rates = ["--replies", "1000000/s", "--proven", "1000000/s"];
                let set = [&["guard", "set", "on"][..], &rates].concat();
                field.tfo.done(&set).map(drop)
            }
            Self::Tfo(action, rate) => {
                field.tfo.done(&["attach", SERVER_INTERFACE, FLOODED])?;
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

    /// Makes sure that it met the flood: nearly all of the `sent` SYNs, where it can tell.
    pub(crate) fn met(self, field: &Field, sent: u64) -> Result<()> {
        let counter = match self {
            Self::NoFlood | Self::Kernel | Self::Nftables | Self::Synproxy => return Ok(()),
            Self::Tfo(..) => "Syns",
            Self::Guard => "GuardChallenged",
        };
        let met = field.tfo.stats()?.counters.get(counter).copied();
        ensure!(
            met.is_some_and(|met| met as f64 >= 0.9 * sent as f64),
            "{counter} is {met:?} after a flood of {sent} SYNs: they are not what they ought to be, or are lost on the way"
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
            Self::Tfo(..) | Self::Guard => {
                field.receiving.done(&["detach", "--all"])?;
                field.tfo.done(&["detach", "--all"]).map(drop)
            }
        }
    }
}

/// It knows no cookies: all that it can do is to let few such SYNs pass.
const NFTABLES: &str = "table inet bench {\n\
    chain c { type filter hook prerouting priority raw; policy accept;\n\
    tcp flags & (syn | ack) == syn tcp option fastopen exists limit rate over 10000/second drop\n\
    }\n}";

/// SYNs that nobody tracks are answered with a SYN cookie of nftables, which then opens the connection itself. Without
/// timestamps: with them, about one connection in a hundred to a server on the same host stalls for 1.6 seconds on
/// Linux 6.18, flood or none.
const SYNPROXY: &str = "table inet bench {\n\
    synproxy s {\n mss 1460\n wscale 7\n sack-perm\n}\n\
    chain p { type filter hook prerouting priority raw; policy accept; tcp flags syn notrack; }\n\
    chain i { type filter hook input priority filter; policy accept;\n\
    meta l4proto tcp ct state invalid,untracked synproxy name \"s\"\n\
    meta l4proto tcp ct state invalid drop\n\
    }\n}";

/// A server, its honest client, and a wire that a flood comes by.
pub(crate) struct Field {
    // They go before their namespaces, or they would find nothing to detach from.
    tfo: Tfo,
    /// The generator's.
    receiving: Tfo,
    pub(crate) testbed: Testbed,
    pub(crate) generator: Netns,
    pub(crate) flood: Peer,
    index: u32,
    /// At the client: a frame that XDP sends back arrives only where XDP receives, too.
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
            // That of the other interface, to which frames are made out.
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
        // veth takes frames of other programs where it polls, as it does with GRO or a program of its own.
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

    /// Has the generator make that flood of SYNs to `port`, and gives the frame to run it with.
    pub(crate) fn prepare(&mut self, flood: Flood, port: u16) -> Result<Vec<u8>> {
        let mut frame = flood.frame(port);
        self.flood
            .send_from(self.index, flood == Flood::Cookies, &frame)?;
        frame.push(0);
        Ok(frame)
    }
}

/// Puts a program on an interface, as long as it lives.
fn attach(program: &mut Peer, netns: &Netns, interface: &str) -> Result<()> {
    let xdp = program.xdp_mut()?;
    netns
        .run(|| xdp.attach(interface, XdpMode::Driver))
        .with_context(|| format!("{interface} takes no XDP program in its driver"))?;
    Ok(())
}
