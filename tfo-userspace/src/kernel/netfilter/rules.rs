//! The rules of nftables and iptables, as far as they concern TCP by port, flags and conntrack state, and the walk of one
//! packet through them.
//!
//! A match that is not modelled (an address, an interface, a mark) may apply or not: the walk follows both ways. It
//! therefore finds every rule that may concern the packet, and calls a packet's way certain only where it is.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::RangeInclusive,
};

/// Flags of the TCP header.
pub(crate) const FIN: u8 = 0x01;
pub(crate) const SYN: u8 = 0x02;
pub(crate) const RST: u8 = 0x04;
pub(crate) const PSH: u8 = 0x08;
pub(crate) const ACK: u8 = 0x10;
pub(crate) const URG: u8 = 0x20;

/// States of conntrack, one bit each.
pub(crate) const INVALID: u8 = 0x01;
pub(crate) const ESTABLISHED: u8 = 0x02;
pub(crate) const RELATED: u8 = 0x04;
pub(crate) const NEW: u8 = 0x08;
pub(crate) const UNTRACKED: u8 = 0x10;

/// Packets that take more steps than this are not followed to the end.
const MAX_STEPS: usize = 1_000_000;
/// The kernel's `NFT_JUMP_STACK_SIZE`.
const MAX_DEPTH: usize = 16;

/// The hook that calls a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Hook {
    Prerouting,
    Input,
    Forward,
    Output,
    /// None of these.
    Other,
}

/// The address families that a chain sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Families {
    V4,
    V6,
    Both,
}

/// The properties of a base chain.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Base {
    pub(crate) hook: Hook,
    pub(crate) priority: i32,
    /// The policy is to drop.
    pub(crate) drops: bool,
    /// It translates addresses.
    pub(crate) translates: bool,
}

/// A chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    pub(crate) families: Families,
    pub(crate) base: Option<Base>,
    pub(crate) rules: Vec<Rule>,
}

/// A rule: all matches have to hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rule {
    /// The rule for people: its place, or its text.
    pub(crate) place: String,
    pub(crate) matches: Vec<Match>,
    pub(crate) actions: Vec<Action>,
}

/// A condition of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Match {
    /// The destination port is in one of the ranges, or in none.
    Ports {
        ranges: Vec<RangeInclusive<u16>>,
        equal: bool,
    },
    /// The destination port is in one of the ranges, and other fields match that are not modelled.
    PortsAndMore { ranges: Vec<RangeInclusive<u16>> },
    /// `flags & mask == value`, or `!=`.
    Flags { mask: u8, value: u8, equal: bool },
    /// The state is one of these, or none.
    State { states: u8, equal: bool },
    /// An address of one of these families, which is not compared: the rule may apply or not. One that exempts packets from
    /// conntrack is taken for one of the guarded addresses.
    Address(Families),
    /// Not TCP, or not an arriving SYN or ACK.
    Never,
    /// Not modelled.
    Unknown,
}

/// The action of a rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    Accept,
    Drop,
    Return,
    /// To the chain of this key, and back.
    Jump(String),
    /// To the chain of this key, and back to the caller's caller.
    Goto(String),
    /// Translates the destination: dnat, redirect or tproxy.
    Translate(&'static str),
    NoTrack,
}

/// The packet ends here.
pub(crate) fn is_drop(action: &Action) -> bool {
    *action == Action::Drop
}

/// The destination port of a packet.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Port<'a> {
    Is(u16),
    /// Some port that is not one of these.
    NoneOf(&'a BTreeSet<u16>),
}

/// A TCP packet for this host.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Packet<'a> {
    /// `V4` or `V6`.
    pub(crate) family: Families,
    pub(crate) port: Port<'a>,
    pub(crate) flags: u8,
    pub(crate) state: u8,
    /// The hook after prerouting: [`Hook::Input`] or [`Hook::Forward`].
    pub(crate) hook: Hook,
}

/// The possible effects of rules on a packet on its way in, or through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Way {
    /// The rules that may translate its destination, with their kind.
    pub(crate) translated: BTreeSet<(String, &'static str)>,
    /// The rules and policies that may drop it, with the base chain.
    pub(crate) dropped: BTreeSet<(String, String)>,
    /// Conntrack certainly does not see it.
    pub(crate) untracked: bool,
}

/// All chains, by key.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Ruleset {
    pub(crate) chains: BTreeMap<String, Chain>,
}

impl Ruleset {
    /// The ports at which ranges in matches begin.
    pub(crate) fn ports(&self) -> BTreeSet<u16> {
        let rules = self.chains.values().flat_map(|chain| &chain.rules);
        let ranges = rules
            .flat_map(|rule| &rule.matches)
            .flat_map(|each| match each {
                Match::Ports { ranges, .. } | Match::PortsAndMore { ranges } => ranges.as_slice(),
                _ => &[],
            });
        ranges
            .map(|range| *range.start())
            .filter(|port| *port != 0)
            .collect()
    }

    /// A chain that translates packets of this family, at whatever hook, where conntrack sees any. One has the kernel look for
    /// translations at each hook.
    pub(crate) fn translating(&self, family: Families) -> Option<&str> {
        let seen = || {
            let all = self.chains.iter();
            all.filter(|(_, chain)| chain.families.see(family))
        };
        if !seen().any(|(_, chain)| chain.tracks()) {
            return None;
        }
        let found = seen().find(|(_, chain)| chain.translates());
        found.map(|(key, _)| key.as_str())
    }

    /// Follows a packet through the chains at prerouting and input.
    pub(crate) fn way(&self, packet: Packet<'_>) -> Way {
        let mut walk = Walk {
            ruleset: self,
            packet,
            way: Way::default(),
            base: "",
            before_conntrack: false,
            steps: 0,
        };
        for (key, chain) in &self.chains {
            let arriving = [Hook::Prerouting, packet.hook];
            let Some(base) = chain.base.filter(|base| arriving.contains(&base.hook)) else {
                continue;
            };
            if !chain.families.see(packet.family) {
                continue;
            }
            walk.base = key;
            // NF_IP_PRI_CONNTRACK.
            walk.before_conntrack = base.hook == Hook::Prerouting && base.priority < -200;
            let ends = walk.chain(chain, true, 0);
            if !ends && base.drops {
                let policy = format!("{key}: policy drop");
                walk.way.dropped.insert((policy, key.clone()));
            }
        }
        walk.way
    }
}

impl Chain {
    /// A base chain that translates addresses.
    fn translates(&self) -> bool {
        self.base.is_some_and(|base| base.translates)
    }

    /// Its rules have conntrack see packets: those that translate, and those that ask for a state.
    fn tracks(&self) -> bool {
        let matches = self.rules.iter().flat_map(|rule| &rule.matches);
        let by_state = |each: &Match| matches!(each, Match::State { .. });
        self.translates() && !self.rules.is_empty() || matches.into_iter().any(by_state)
    }
}

impl Families {
    fn see(self, family: Self) -> bool {
        self == Self::Both || self == family
    }
}

struct Walk<'a> {
    ruleset: &'a Ruleset,
    packet: Packet<'a>,
    way: Way,
    /// The key of the base chain.
    base: &'a str,
    before_conntrack: bool,
    steps: usize,
}

impl Walk<'_> {
    /// Follows a chain. `true` where the packet's way through the base chain certainly ends in it.
    fn chain(&mut self, chain: &Chain, certain: bool, depth: usize) -> bool {
        for rule in &chain.rules {
            self.steps += 1;
            let matches = rule.matches(self.packet);
            if matches == Some(false) || self.steps > MAX_STEPS {
                continue;
            }
            let here = matches == Some(true);
            for action in &rule.actions {
                let exempts = *action == Action::NoTrack && rule.exempts(self.packet);
                let end = self.act(action, rule, certain && (here || exempts), depth);
                if let Some(end) = end.filter(|_| here) {
                    return end;
                }
            }
        }
        false
    }

    /// `Some` where the chain ends with this action if its rule applies; `true` if the base chain does, too.
    fn act(&mut self, action: &Action, rule: &Rule, certain: bool, depth: usize) -> Option<bool> {
        match action {
            Action::Accept => Some(true),
            Action::Return => Some(false),
            Action::Drop => {
                let drop = (rule.place.clone(), self.base.to_owned());
                self.way.dropped.insert(drop);
                Some(true)
            }
            Action::Translate(how) => {
                self.way.translated.insert((rule.place.clone(), how));
                None
            }
            Action::NoTrack => {
                self.way.untracked |= certain && self.before_conntrack;
                None
            }
            Action::Jump(target) => self.call(target, certain, depth).then_some(true),
            Action::Goto(target) => Some(self.call(target, certain, depth)),
        }
    }

    fn call(&mut self, target: &str, certain: bool, depth: usize) -> bool {
        let ruleset = self.ruleset;
        let target = ruleset.chains.get(target).filter(|_| depth < MAX_DEPTH);
        target.is_some_and(|chain| self.chain(chain, certain, depth + 1))
    }
}

impl Rule {
    /// `None` where it may apply or not.
    fn matches(&self, packet: Packet<'_>) -> Option<bool> {
        let mut all = Some(true);
        for each in &self.matches {
            match each.holds(packet) {
                Some(false) => return Some(false),
                None => all = None,
                Some(true) => {}
            }
        }
        all
    }

    /// All matches hold, provided that addresses do.
    fn exempts(&self, packet: Packet<'_>) -> bool {
        self.matches.iter().all(|each| match each {
            Match::Address(families) => families.see(packet.family),
            other => other.holds(packet) == Some(true),
        })
    }
}

impl Match {
    fn holds(&self, packet: Packet<'_>) -> Option<bool> {
        match self {
            Self::Ports { ranges, equal } => {
                port_in(packet.port, ranges).map(|within| within == *equal)
            }
            Self::Flags { mask, value, equal } => Some((packet.flags & mask == *value) == *equal),
            Self::State { states, equal } => Some((packet.state & states != 0) == *equal),
            Self::Never => Some(false),
            Self::PortsAndMore { ranges } => port_in(packet.port, ranges).filter(|within| !within),
            Self::Address(families) if !families.see(packet.family) => Some(false),
            Self::Address(_) | Self::Unknown => None,
        }
    }
}

fn port_in(port: Port<'_>, ranges: &[RangeInclusive<u16>]) -> Option<bool> {
    match port {
        Port::Is(port) => Some(ranges.iter().any(|range| range.contains(&port))),
        Port::NoneOf(excluded) => {
            let other = |range: &RangeInclusive<u16>| {
                range
                    .clone()
                    .any(|port| port != 0 && !excluded.contains(&port))
            };
            if !ranges.iter().any(other) {
                return Some(false);
            }
            let whole = ranges
                .iter()
                .any(|range| *range.start() <= 1 && *range.end() == u16::MAX);
            whole.then_some(true)
        }
    }
}

#[cfg(test)]
mod tests;
