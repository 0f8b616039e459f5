//! The defences that the flood benchmark compares.

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    policy::{Action, Class},
    rate::Rate,
};
use tfo_testbed::{keys::KeyFile, netns::Netns, tfo::Tfo, veth::Family, xdp::Mode};
use tfo_userspace::{
    datapath::Namespace,
    model::{Policy, PortPolicy},
};

use super::field::{Field, Flood, GENERATOR, HOST};

/// A rate that a SYN queue sustains: each entry stays for a minute.
const FEW: Rate = Rate {
    per_second: 10,
    burst: 10,
};

/// The secret that an edge shares with the host behind it.
const SECRET: &str = "363ec6a05e76eedeb9eb73bc5c25ca5f13f7c1df70c9af3531db4c83d23a8f6b";

/// All legitimate clients share one source address.
const RATES: [&str; 4] = ["--replies", "1000000/s", "--proven", "1000000/s"];

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
    /// nftables' `synproxy` on the edge, for what it forwards.
    SynproxyForward,
    /// `tfo guard` on the host behind the edge.
    HostGuard,
    /// `tfo guard` on the edge in this mode, whose challenges the host behind takes the answers to.
    Edge(Mode),
}

impl Defence {
    /// Those of one machine against this flood.
    pub(crate) const fn against(flood: Flood) -> &'static [Self] {
        match flood {
            Flood::Plain => &[
                Self::NoFlood,
                Self::Kernel,
                Self::Synproxy,
                Self::Guard(Mode::Native),
                Self::Guard(Mode::Generic),
                Self::Guard(Mode::Tc),
            ],
            Flood::Cookies => &[
                Self::NoFlood,
                Self::Kernel,
                Self::Nftables,
                Self::Tfo(Action::Drop, Rate::UNLIMITED),
                Self::Tfo(Action::Reissue, FEW),
                Self::Guard(Mode::Native),
                Self::Guard(Mode::Tc),
            ],
        }
    }

    /// Those of an edge and a host behind it.
    pub(crate) const BEHIND: &[Self] = &[
        Self::NoFlood,
        Self::Kernel,
        Self::SynproxyForward,
        Self::HostGuard,
        Self::Edge(Mode::Native),
        Self::Edge(Mode::Tc),
    ];

    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::NoFlood => "no flood",
            Self::Kernel => "the kernel alone",
            Self::Nftables => "nftables, 10,000 such SYNs a second",
            Self::Synproxy => "nftables, synproxy",
            Self::SynproxyForward => "nftables, synproxy on the edge",
            Self::HostGuard => "tfo guard on the host, tc",
            Self::Edge(Mode::Native) => "tfo guard on the edge, native XDP",
            Self::Edge(Mode::Generic) => "tfo guard on the edge, generic XDP",
            Self::Edge(Mode::Tc) => "tfo guard on the edge, tc",
            Self::Guard(Mode::Native) => "tfo guard, native XDP",
            Self::Guard(Mode::Generic) => "tfo guard, generic XDP",
            Self::Guard(Mode::Tc) => "tfo guard, tc",
            Self::Tfo(Action::Drop, _) => "tfo, bad = drop",
            Self::Tfo(..) => "tfo, bad = reissue, 10 a second",
        }
    }

    /// Raises it for the service's `port`.
    pub(crate) fn raise(self, field: &Field, port: u16) -> Result<()> {
        let server = &field.testbed.pair.server;
        match self {
            Self::NoFlood | Self::Kernel => Ok(()),
            Self::Nftables => server.done("nft", &[NFTABLES]).map(drop),
            Self::Synproxy => synproxy(server, "input"),
            Self::SynproxyForward => synproxy(server, "forward"),
            Self::Guard(mode) => {
                attach(field, mode)?;
                let set = [&["guard", "set", "on"][..], &RATES].concat();
                field.tfo.done(&set).map(drop)
            }
            Self::HostGuard => {
                let host = attach_behind(field)?;
                let set = [&["guard", "set", "on"][..], &RATES].concat();
                host.done(&set).map(drop)
            }
            Self::Edge(mode) => {
                let secret = KeyFile::new(SECRET)?;
                let secret = ["--secret-file", secret.path()];
                let host = attach_behind(field)?;
                host.done(&[&["guard", "set", "off"][..], &secret].concat())?;
                attach(field, mode)?;
                let (vip, port) = (Family::V4.server().to_string(), port.to_string());
                let service = ["guard", "set", "on", "--vip", &vip, "--port", &port];
                let set = [&service[..], &secret, &RATES].concat();
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
            Self::Tfo(..) => "Syns",
            Self::Edge(_) => "GuardReferred",
            Self::Guard(_) => "GuardChallenged",
            _ => return Ok(()),
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
            Self::Nftables | Self::Synproxy | Self::SynproxyForward => {
                server.done("nft", &["delete table inet bench"]).map(drop)
            }
            Self::Tfo(..) | Self::Guard(_) | Self::HostGuard | Self::Edge(_) => {
                let behind = field.behind.as_ref().map(|behind| &behind.tfo);
                let all = [&field.receiving, &field.tfo].into_iter().chain(behind);
                all.into_iter()
                    .try_for_each(|tfo| tfo.done(&["detach", "--all"]).map(drop))
            }
        }
    }
}

/// nftables does not verify cookies, so it can only limit the rate of such SYNs.
const NFTABLES: &str = "table inet bench {\n\
    chain c { type filter hook prerouting priority raw; policy accept;\n\
    tcp flags & (syn | ack) == syn tcp option fastopen exists limit rate over 10000/second drop\n\
    }\n}";

/// Attaches `tfo` to the interfaces of the server.
fn attach(field: &Field, mode: Mode) -> Result<()> {
    field.attach(mode)?;
    // veth drops an XDP_TX frame unless the peer has an XDP program. With the other defences, a program here would keep the
    // flood from a server without XDP.
    if mode == Mode::Native {
        let native = ["attach", GENERATOR, "--mode", "native"];
        field.receiving.done(&native)?;
    }
    Ok(())
}

/// Attaches `tfo` on the host behind.
fn attach_behind(field: &Field) -> Result<&Tfo> {
    let behind = field.behind.as_ref().context("no host behind")?;
    behind.tfo.done(&["attach", HOST, "--mode", "tc"])?;
    Ok(&behind.tfo)
}

/// Answers untracked SYNs with a SYN cookie, then opens the connection to the server. Timestamps are off: with them,
/// about 1 % of connections to a server on the same host stall for 1.6 seconds on Linux 6.18, even without a flood.
fn synproxy(netns: &Netns, hook: &str) -> Result<()> {
    // Otherwise conntrack takes the ACK that returns the SYN cookie for an established connection.
    netns.set_sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
    let rules = format!(
        "table inet bench {{\n\
         synproxy s {{\n mss 1460\n wscale 7\n sack-perm\n}}\n\
         chain p {{ type filter hook prerouting priority raw; policy accept; tcp flags & (syn | ack) == syn notrack; }}\n\
         chain i {{ type filter hook {hook} priority filter; policy accept;\n\
         meta l4proto tcp ct state invalid,untracked synproxy name \"s\"\n\
         meta l4proto tcp ct state invalid drop\n\
         }}\n}}"
    );
    netns.done("nft", &[&rules]).map(drop)
}
