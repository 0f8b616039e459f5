//! Where floods are tried, and what stands against them.

use std::net::{Ipv4Addr, SocketAddr};

use anyhow::{Context as _, Result};
use tfo_common::policy::{Action, Class, Rate};
use tfo_tests::{
    bed::{Bed, REQUEST},
    netns::{Netns, wait_until_up},
    packet::{Segment, fast_open},
    tfo::Tfo,
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};
use tfo_userspace::{
    datapath::{Namespace, NamespaceError},
    policy::{Policy, PortPolicy},
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

/// What stands against the flood.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Defence {
    /// There is no flood.
    NoFlood,
    Kernel,
    Nftables,
    /// What `tfo` does with bad cookies, and how many of them it lets pass so.
    Tfo(Action, Rate),
}

impl Defence {
    pub(crate) const ALL: [Self; 5] = [
        Self::NoFlood,
        Self::Kernel,
        Self::Nftables,
        Self::Tfo(Action::Drop, Rate::UNLIMITED),
        Self::Tfo(Action::Reissue, FEW),
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoFlood => "no flood",
            Self::Kernel => "the kernel alone",
            Self::Nftables => "nftables, 10,000 such SYNs a second",
            Self::Tfo(Action::Drop, _) => "tfo, bad = drop",
            Self::Tfo(..) => "tfo, bad = reissue, 10 a second",
        }
    }

    pub(crate) fn raise(self, field: &Field) -> Result<()> {
        let server = &field.bed.pair.server;
        match self {
            Self::NoFlood | Self::Kernel => Ok(()),
            Self::Nftables => server.done("nft", &[NFTABLES]).map(drop),
            Self::Tfo(action, rate) => {
                field.tfo.done(&["attach", SERVER_INTERFACE, FLOODED])?;
                let mut port = PortPolicy::default();
                port.actions[Class::Bad as usize] = action;
                port.limits[Class::Bad as usize].port = rate;
                let policy = Policy {
                    default: port,
                    ..Policy::default()
                };
                let set = || Namespace::current()?.change_policy(|_| Ok(Some(policy)));
                server
                    .run(set)
                    .map(drop)
                    .map_err(|error: NamespaceError| error.into())
            }
        }
    }

    pub(crate) fn lower(self, field: &Field) -> Result<()> {
        let server = &field.bed.pair.server;
        match self {
            Self::NoFlood | Self::Kernel => Ok(()),
            Self::Nftables => server.done("nft", &["delete table inet bench"]).map(drop),
            Self::Tfo(..) => field.tfo.done(&["detach", "--all"]).map(drop),
        }
    }
}

/// It knows no cookies: all that it can do is to let few such SYNs pass.
const NFTABLES: &str = "table inet bench {\n\
    chain c { type filter hook prerouting priority raw; policy accept;\n\
    tcp flags & (syn | ack) == syn tcp option fastopen exists limit rate over 10000/second drop\n\
    }\n}";

/// A server, its honest client, and a wire that a flood comes by.
pub(crate) struct Field {
    pub(crate) bed: Bed,
    tfo: Tfo,
    pub(crate) generator: Netns,
    pub(crate) flood: Peer,
}

impl Field {
    pub(crate) fn new() -> Result<Self> {
        let bed = Bed::idle(Pair::new()?)?;
        let server = &bed.pair.server;
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
            format!("link set {FLOODED} address 02:00:00:00:00:02"),
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
        let flood = Peer::flood(index.parse().context("ip shows no index")?)?;
        Ok(Self {
            tfo: Tfo::new(server),
            bed,
            generator,
            flood,
        })
    }

    /// The frame that the flood is made of.
    pub(crate) fn frame(port: u16) -> Vec<u8> {
        let from: SocketAddr = (Ipv4Addr::new(198, 18, 0, 0), 1024).into();
        let segment = Segment::syn(from, server_port(Family::V4, port));
        segment
            .options(&fast_open(&[0; 8]))
            .data(REQUEST)
            .frame()
            .to_vec()
    }
}
