//! Fitness of this host for a guard: the settings of the host in which it breaks connections.
//!
//! The guard answers a SYN before netfilter has seen it. So a port that netfilter translates is answered for the wrong
//! socket, and a firewall that wants conntrack to have seen the SYN drops the ACK.

use std::collections::BTreeSet;

use tfo_common::guard::GuardMode;

use super::{
    edge_routes,
    obstacle::{Obstacle, Weight},
};
use crate::{
    kernel::{
        netfilter::{
            ACK, Families, Hook, INVALID, Match, NEW, Netfilter, Packet, Port, SYN, UNTRACKED, Way,
            is_drop,
        },
        sysctl,
    },
    model::{Guard, PortGuard, Prefix},
};

/// The check of `net.ipv4.tcp_syncookies`.
pub(crate) const SYN_COOKIES: &str = "guard and SYN cookies";
/// Rules that an obstacle names.
const MAX_NAMED: usize = 3;
/// Ports that rules name, and that are examined for the default rule.
const MAX_PORTS: usize = 256;

/// Returns the obstacles to `guard` in the calling thread's namespace. Reads the rules of
/// netfilter.
pub fn obstacles(guard: &Guard) -> Vec<Obstacle> {
    if active(guard).is_empty() {
        return Vec::new();
    }
    let mut obstacles = judge(guard, &Netfilter::read(), sysctl::syn_cookies().ok());
    obstacles.extend(edge_routes::obstacles(guard));
    obstacles
}

/// The ports of this host at which a guard breaks connections; 0 for those without a rule of their own.
pub fn broken(obstacles: &[Obstacle]) -> BTreeSet<u16> {
    let ports = obstacles.iter().filter_map(|each| match each.weight {
        Weight::Breaks(port) => Some(port),
        _ => None,
    });
    ports.collect()
}

/// `guard` without the ports at which it breaks connections.
pub fn without(guard: &Guard, obstacles: &[Obstacle]) -> Guard {
    let mut guard = guard.clone();
    for obstacle in obstacles {
        match obstacle.weight {
            Weight::Breaks(0) => guard.default = None,
            // Else the default rule would apply.
            Weight::Breaks(port) => {
                if let Some(rule) = guard.ports.get_mut(&port) {
                    rule.mode = GuardMode::Off;
                }
            }
            Weight::BreaksBehind(port) => guard.edges.retain(|service, _| service.port != port),
            Weight::Idle | Weight::Unknown => {}
        }
    }
    guard
}

/// The ports that may be guarded, or take the answers to challenges; 0 for the default rule. Each with the hook that their
/// packets meet.
fn active(guard: &Guard) -> BTreeSet<(Hook, u16)> {
    // Other hosts challenge for a port whose own guard is off.
    let takes_answers = guard.secret.is_some();
    let is_active = |rule: &PortGuard| takes_answers || rule.mode != GuardMode::Off;
    let here = guard.rules().filter(|(_, rule)| is_active(rule));
    let here = here.map(|(port, _)| (Hook::Input, port as u16));
    let edges = guard.edges.iter();
    let behind = edges.filter(|(_, edge)| edge.rule.mode != GuardMode::Off);
    here.chain(behind.map(|(service, _)| (Hook::Forward, service.port)))
        .collect()
}

fn judge(guard: &Guard, netfilter: &Netfilter, syn_cookies: Option<u32>) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    let own = guard.ports.keys().copied().collect();
    for (hook, port) in active(guard) {
        let services = guard.edges.keys().filter(|service| service.port == port);
        let host = Host {
            netfilter,
            hook,
            port,
            own: &own,
            vips: services.map(|service| service.vip).collect(),
        };
        obstacles.extend(host.translates());
        // The remedy of the one is that of the other.
        obstacles.extend(host.drops().or_else(|| host.translates_tracked()));
    }
    obstacles.extend(netfilter.unread.iter().map(|unread| Obstacle {
        check: "guard and netfilter",
        found: format!(
            "{}; so it is not known whether they translate guarded ports or drop what conntrack has not seen",
            unread.found
        ),
        remedy: unread.remedy.clone(),
        weight: Weight::Unknown,
    }));
    if syn_cookies == Some(0) && guard.is_for_host() {
        obstacles.push(Obstacle {
            check: SYN_COOKIES,
            found: "net.ipv4.tcp_syncookies = 0: the kernel opens no connection for the guard, so no SYN is challenged"
                .to_owned(),
            remedy: "sysctl -w net.ipv4.tcp_syncookies=1".to_owned(),
            weight: Weight::Idle,
        });
    }
    obstacles
}

/// A port of this host, or of the hosts behind it, and netfilter.
struct Host<'a> {
    netfilter: &'a Netfilter,
    /// [`Hook::Input`] for this host's, [`Hook::Forward`] for those behind it.
    hook: Hook,
    /// 0 for all that are not in `own`.
    port: u16,
    own: &'a BTreeSet<u16>,
    /// The addresses of an edge's services at the port.
    vips: Vec<Prefix>,
}

impl Host<'_> {
    /// Rules that translate packets to the port.
    fn translates(&self) -> Option<Obstacle> {
        let port = match self.port {
            0 => Port::NoneOf(self.own),
            port => Port::Is(port),
        };
        let way = |family| self.way(family, port, SYN, NEW);
        let rules: Vec<_> = self
            .families()
            .flat_map(|family| way(family).translated)
            .map(|(place, kind)| format!("`{place}` ({kind})"))
            .collect();
        let rules = named(&rules.into_iter().collect())?;
        Some(Obstacle {
            check: "guard and NAT",
            found: format!(
                "{}: netfilter translates packets there, or hands them to a proxy: {rules}. The guard answers before that, so connections \
                 through such a rule fail",
                self.name()
            ),
            remedy: "guard the port in the network namespace or on the host where its listener is; or, if the rules are for \
                     other addresses or interfaces than the guarded ones, insist with --force (force = true in [guard])"
                .to_owned(),
            weight: self.weight(),
        })
    }

    /// Rules that pass a SYN, and drop the ACK of a client that was challenged.
    fn drops(&self) -> Option<Obstacle> {
        let mut dropped = BTreeSet::new();
        for port in self.ports() {
            for family in self.families() {
                dropped.extend(self.dropped(family, port));
            }
        }
        let rules = named(
            &dropped
                .iter()
                .map(|(rule, _)| format!("`{rule}`"))
                .collect(),
        )?;
        let strict = if self.netfilter.strict {
            " (net.netfilter.nf_conntrack_tcp_loose = 0)"
        } else {
            ""
        };
        Some(Obstacle {
            check: "guard and conntrack",
            found: format!(
                "{}: netfilter passes a SYN there and drops the ACK that answers the guard's challenge, since conntrack has \
                 not seen the SYN{strict}: {rules}",
                self.name()
            ),
            remedy: self.untrack(dropped.into_iter().map(|(_, chain)| chain).collect()),
            weight: self.weight(),
        })
    }

    /// NAT, of whatever port. At the input, the kernel compares a tracked packet's port with that of the socket that the packet
    /// has (`nf_nat_inet_port_was_mangled`); a request by `bpf_sk_assign_tcp_reqsk` has none yet, and is taken away: observed on
    /// 6.18. An edge may translate the source, which the challenge covers.
    fn translates_tracked(&self) -> Option<Obstacle> {
        let mut chains = BTreeSet::new();
        let mut dropped = BTreeSet::new();
        for port in self.ports() {
            for family in self.families() {
                let way = |flags, state| self.way(family, port, flags, state);
                let chain = self.netfilter.rules.translating(family);
                let Some(chain) = chain.filter(|_| !way(ACK, NEW).untracked) else {
                    continue;
                };
                chains.insert(format!("`{chain}`"));
                // What drops packets without a state, once the port is exempt.
                let syn = way(SYN, NEW).dropped;
                let exempt = [SYN, ACK].map(|flags| way(flags, UNTRACKED).dropped);
                let exempt = exempt.into_iter().flatten();
                dropped.extend(exempt.filter(|drop| !syn.contains(drop)));
            }
        }
        let chains = named(&chains)?;
        Some(Obstacle {
            check: "guard and conntrack",
            found: format!(
                "{}: netfilter translates addresses on this host ({chains}), {}: the client is reset",
                self.name(),
                match self.hook {
                    Hook::Forward =>
                        "and hosts take no answer to the guard's challenge from another address than the client's",
                    _ =>
                        "and the kernel then takes the new connection from each ACK that answers the guard's challenge, if conntrack \
                          has seen the ACK",
                }
            ),
            remedy: self.untrack(dropped.into_iter().map(|(_, chain)| chain).collect()),
            weight: self.weight(),
        })
    }

    /// The families of the packets to the port.
    fn families(&self) -> impl Iterator<Item = Families> {
        let both = [(Families::V4, true), (Families::V6, false)].into_iter();
        let here = self.hook == Hook::Input;
        both.filter(move |(_, v4)| here || self.vips.iter().any(|vip| vip.address.is_ipv4() == *v4))
            .map(|(family, _)| family)
    }

    /// The way of a packet to the port.
    fn way(&self, family: Families, port: Port<'_>, flags: u8, state: u8) -> Way {
        self.netfilter.rules.way(Packet {
            family,
            port,
            flags,
            state,
            hook: self.hook,
        })
    }

    /// The rules that drop the ACK and not the SYN, each with its base chain.
    fn dropped(&self, family: Families, port: Port<'_>) -> BTreeSet<(String, String)> {
        let way = |flags, state| self.way(family, port, flags, state);
        let untracked = way(ACK, NEW).untracked;
        let states = match (untracked, self.netfilter.strict) {
            (true, _) => &[UNTRACKED][..],
            (false, true) => &[INVALID],
            // Invalid if the client's port was used before.
            (false, false) => &[NEW, INVALID],
        };
        let syn = way(SYN, if untracked { UNTRACKED } else { NEW });
        let ack = states.iter().flat_map(|state| way(ACK, *state).dropped);
        ack.filter(|drop| !syn.dropped.contains(drop)).collect()
    }

    /// The port; for the default rule also each that a rule of netfilter names, since a firewall opens single ports.
    fn ports(&self) -> Vec<Port<'_>> {
        if self.port != 0 {
            return vec![Port::Is(self.port)];
        }
        let named = self.netfilter.rules.ports().into_iter();
        let others = named
            .filter(|port| !self.own.contains(port))
            .take(MAX_PORTS);
        std::iter::once(Port::NoneOf(self.own))
            .chain(others.map(Port::Is))
            .collect()
    }

    /// Commands that keep the port from conntrack, and have these base chains accept it.
    fn untrack(&self, mut chains: BTreeSet<String>) -> String {
        let port = self.port;
        if port == 0 {
            return "give rules to single ports (tfo guard set --port PORT): `tfo guard set` prints the rules that exempt them \
                    from conntrack"
                .to_owned();
        }
        // What others have at the same port stays tracked: NAT of what this host forwards needs it.
        let rules: Vec<_> = match self.hook {
            // Answers of hosts behind this one come in.
            Hook::Forward => {
                let both = self.vips.iter().flat_map(|vip| {
                    let family = if vip.address.is_ipv4() { "ip" } else { "ip6" };
                    [
                        (
                            "prerouting",
                            format!("{family} daddr {vip} tcp dport {port}"),
                        ),
                        (
                            "prerouting",
                            format!("{family} saddr {vip} tcp sport {port}"),
                        ),
                    ]
                });
                both.collect()
            }
            _ => vec![
                (
                    "prerouting",
                    format!("fib daddr type local tcp dport {port}"),
                ),
                ("output", format!("tcp sport {port}")),
            ],
        };
        let mut commands = vec!["nft add table inet tfo_guard".to_owned()];
        for (hook, packets) in rules {
            let chain = format!(
                "nft add chain inet tfo_guard {hook} '{{ type filter hook {hook} priority raw; }}'"
            );
            if !commands.contains(&chain) {
                commands.push(chain);
            }
            commands.push(format!(
                "nft add rule inet tfo_guard {hook} {packets} notrack"
            ));
        }
        let accept = |chain: &String, direction: &str| match chain.split_once(" -t ") {
            Some((tool, place)) => {
                let (table, chain) = place.split_once(' ').unwrap_or(("filter", place));
                let tool = tool.trim_end_matches("-nft");
                format!(
                    "{tool} -t {table} -I {chain} -p tcp --{direction} {port} -m conntrack --ctstate UNTRACKED -j ACCEPT"
                )
            }
            None => {
                format!("nft insert rule {chain} tcp {direction} {port} ct state untracked accept")
            }
        };
        commands.extend(chains.iter().map(|chain| accept(chain, "dport")));
        chains = self.outgoing();
        commands.extend(chains.iter().map(|chain| accept(chain, "sport")));
        commands.join("\n")
    }

    /// The base chains for answers that may drop by state.
    fn outgoing(&self) -> BTreeSet<String> {
        let chains = self.netfilter.rules.chains.iter();
        let drop = chains.filter(|(_, chain)| {
            let answers = match self.hook {
                Hook::Forward => Hook::Forward,
                _ => Hook::Output,
            };
            let for_answers = chain.base.filter(|base| base.hook == answers);
            let by_state = || {
                chain.rules.iter().any(|rule| {
                    rule.actions.iter().any(is_drop)
                        && rule
                            .matches
                            .iter()
                            .any(|each| matches!(each, Match::State { .. }))
                })
            };
            for_answers.is_some_and(|base| base.drops || by_state())
        });
        drop.map(|(key, _)| key.clone()).collect()
    }

    const fn weight(&self) -> Weight {
        match self.hook {
            Hook::Forward => Weight::BreaksBehind(self.port),
            _ => Weight::Breaks(self.port),
        }
    }

    fn name(&self) -> String {
        match (self.hook, self.port) {
            (Hook::Forward, port) => format!("port {port} of the hosts behind this one"),
            (_, 0) => "ports without a rule of their own".to_owned(),
            (_, port) => format!("port {port}"),
        }
    }
}

/// `None` where there is none.
fn named(rules: &BTreeSet<String>) -> Option<String> {
    let first: Vec<_> = rules.iter().take(MAX_NAMED).cloned().collect();
    let more = match rules.len().saturating_sub(MAX_NAMED) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    (!rules.is_empty()).then(|| first.join(", ") + &more)
}

#[cfg(test)]
mod tests;
