//! Policies: what is done to SYNs, by port and by [`Class`].

use std::{collections::BTreeMap, time::Duration};

use tfo_common::{
    abi::DEFAULT_PORT,
    policy::{
        Action, Class, Limit, Rule,
        once::{OnceBy, OnceHead},
    },
    wire::addresses::PrefixMask,
};

use super::Prefix;

/// Ports that can have a rule of their own.
const PORTS: u32 = 65_535;

/// A policy. The default passes every SYN.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Prefix lengths and capacity of limits by source.
    pub sources: LimitedSources,
    /// The rule of ports without one of their own.
    pub default: PortPolicy,
    /// Rules by port. Such a port takes nothing from the default.
    pub ports: BTreeMap<u16, PortPolicy>,
    /// Allowed and denied prefixes.
    pub lists: Lists,
    /// The memory of rules with the action `once`.
    pub once: OnceMemory,
}

/// Prefixes that stand above a policy's rules. The longest prefix that holds a source decides.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lists {
    /// Exempt from every rule and limit. Sorted.
    pub allow: Vec<Prefix>,
    /// Subject to [`PortPolicy::denied`]. Sorted.
    pub deny: Vec<Prefix>,
}

impl Lists {
    /// Prefixes on both lists.
    pub fn len(&self) -> usize {
        self.allow.len() + self.deny.len()
    }

    /// Both lists are empty.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Prefix lengths and capacity of limits by source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitedSources {
    /// Capacity in entries, one per prefix, port and class; the least recently used is evicted.
    pub max: u32,
    /// Bits of an IPv4 source's prefix, at most 32.
    pub v4: u8,
    /// Bits of an IPv6 source's prefix, at most 128.
    pub v6: u8,
}

impl Default for LimitedSources {
    fn default() -> Self {
        Self {
            max: 65_536,
            v4: 32,
            v6: 64,
        }
    }
}

/// The lifetime and the capacity of the memory of the action `once`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OnceMemory {
    /// The least time for which a SYN is remembered, at most twice that.
    pub lifetime: Duration,
    /// SYNs in one lifetime, so that at most one in 5,000 others is taken for one of them. A multiple of
    /// [`OnceHead::SYNS_PER_LINE`].
    pub capacity: u32,
}

impl OnceMemory {
    /// Upper bound of the capacity: 1 GiB.
    pub const MAX: u32 = 1 << 26;

    /// This capacity, or the next one that fills whole lines.
    #[must_use]
    pub fn with_capacity(self, capacity: u32) -> Self {
        Self {
            capacity: capacity.next_multiple_of(OnceHead::SYNS_PER_LINE as u32),
            ..self
        }
    }

    /// Lines of the map.
    pub(crate) const fn lines(self) -> u64 {
        self.capacity as u64 / OnceHead::SYNS_PER_LINE
    }
}

impl Default for OnceMemory {
    fn default() -> Self {
        Self {
            lifetime: Duration::from_secs(3600),
            capacity: 1 << 18,
        }
    }
}

/// A port's rule. The default passes every SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortPolicy {
    /// Actions on SYNs within their limits, by [`Class`].
    pub actions: [Action; Class::ALL.len()],
    /// Limits, by [`Class`].
    pub limits: [Limit; Class::ALL.len()],
    /// Action on SYNs from the deny list.
    pub denied: Action,
    /// Replaces a rewriting action where the listener takes data without a cookie: pass or drop.
    pub no_cookie: Action,
    /// The properties by which two SYNs are the same to [`Action::Once`].
    pub once_by: OnceBy,
    /// The time for which cookies are withheld from sources that waste them; zero for not at all.
    pub withhold: Duration,
    /// Count the actions instead of taking them.
    pub dry_run: bool,
}

impl PortPolicy {
    /// As `POLICY_RULES` holds it.
    pub(crate) fn rule(&self, sources: LimitedSources) -> Rule {
        Rule {
            actions: self.actions.map(|action| action as u8),
            denied: self.denied as u8,
            no_cookie: self.no_cookie as u8,
            once_by: self.once_by as u8,
            withhold: self.withhold.as_nanos() as u64,
            dry_run: self.dry_run.into(),
            sources: PrefixMask::new(sources.v4, sources.v6),
            limits: self.limits,
        }
    }

    /// Reads it from `POLICY_RULES`.
    pub(crate) fn of_rule(rule: &Rule) -> Self {
        Self {
            actions: rule.actions.map(Action::from_number),
            limits: rule.limits,
            denied: Action::from_number(rule.denied),
            no_cookie: Action::from_number(rule.no_cookie),
            once_by: OnceBy::from_number(rule.once_by),
            withhold: Duration::from_nanos(rule.withhold),
            dry_run: rule.dry_run != 0,
        }
    }

    /// It has data taken at most once.
    pub fn remembers(&self) -> bool {
        self.actions[Class::Valid as usize] == Action::Once
    }

    /// It withholds cookies from sources that waste them.
    pub const fn withholds(&self) -> bool {
        !self.withhold.is_zero()
    }

    /// Some SYN may be dropped.
    pub(crate) fn drops(&self) -> bool {
        let mut actions = self
            .actions
            .into_iter()
            .chain([self.denied, self.no_cookie]);
        !self.dry_run && actions.any(|action| action == Action::Drop)
    }

    /// Some SYN may have its option rewritten, which has no effect at a listener that needs no cookie. `denies`:
    /// there is a deny list.
    pub(crate) fn rewrites(&self, denies: bool) -> bool {
        let rewriting =
            |action| matches!(action, Action::Reissue | Action::Fallback | Action::Once);
        let limited = |class: Class| {
            let Limit { source, port } = self.limits[class as usize];
            !(source.is_unlimited() && port.is_unlimited())
        };
        self.withholds()
            || self.actions.into_iter().any(rewriting)
            // Over a limit, the option is removed.
            || Class::ALL.into_iter().any(limited)
            || denies && rewriting(self.denied)
    }
}

impl Policy {
    /// The rules, the default's first.
    pub fn port_policies(&self) -> impl Iterator<Item = &PortPolicy> {
        std::iter::once(&self.default).chain(self.ports.values())
    }

    /// Some rule has data taken at most once.
    pub fn remembers(&self) -> bool {
        self.port_policies().any(PortPolicy::remembers)
    }

    /// Some rule withholds cookies.
    pub fn withholds(&self) -> bool {
        self.port_policies().any(PortPolicy::withholds)
    }

    /// The rules by key of `POLICY_RULES`, the default's first.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (u32, Rule)> {
        let default = (DEFAULT_PORT, &self.default);
        let ports = self
            .ports
            .iter()
            .map(|(port, rule)| (u32::from(*port), rule));
        let all = std::iter::once(default).chain(ports);
        all.map(|(port, rule)| (port, rule.rule(self.sources)))
    }

    /// One per port, and the default.
    pub(crate) const MAX_RULES: u32 = PORTS + 1;
}
