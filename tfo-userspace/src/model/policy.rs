//! Policies: what is done to SYNs, by port and by [`Class`].

use std::collections::BTreeMap;

use tfo_common::{
    maps::DEFAULT_PORT,
    policy::{Action, Class, Limit, Rule},
    sources::SourceSettings,
};

use super::Prefix;

/// Most ports that have rules of their own: every port there is.
const PORTS: u32 = 65_535;

/// A policy. The default lets everything pass.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// How sources are told apart for their limits, and how many are remembered.
    pub sources: LimitedSources,
    /// What is done at ports without a rule of their own.
    pub default: PortPolicy,
    /// What is done at a port. Nothing of the default holds there.
    pub ports: BTreeMap<u16, PortPolicy>,
    /// Sources for which other rules hold.
    pub lists: Lists,
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

/// How sources are told apart for their limits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LimitedSources {
    /// Most that are remembered, each by port and class; the one that was not seen for longest makes room.
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

/// What is done at a port. The default lets everything pass.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PortPolicy {
    /// What is done to SYNs within their limits, by [`Class`].
    pub actions: [Action; Class::ALL.len()],
    /// How many may come, by [`Class`].
    pub limits: [Limit; Class::ALL.len()],
    /// What is done to those whose source is denied.
    pub denied: Action,
    /// What is done instead of a rewriting where the listener takes data without a cookie: pass or drop.
    pub no_cookie: Action,
    /// Nothing is done, but counted.
    pub dry_run: bool,
}

impl PortPolicy {
    /// As the program reads it.
    pub(crate) fn rule(&self, sources: LimitedSources) -> Rule {
        Rule {
            actions: self.actions.map(|action| action as u8),
            denied: self.denied as u8,
            no_cookie: self.no_cookie as u8,
            dry_run: self.dry_run.into(),
            sources: SourceSettings::new(sources.v4, sources.v6),
            limits: self.limits,
            ..Rule::PASS
        }
    }

    /// Of what the program reads.
    pub(crate) fn of_rule(rule: &Rule) -> Self {
        Self {
            actions: rule.actions.map(Action::from_number),
            limits: rule.limits,
            denied: Action::from_number(rule.denied),
            no_cookie: Action::from_number(rule.no_cookie),
            dry_run: rule.dry_run != 0,
        }
    }

    /// Whether an option may be rewritten, which keeps no data out where no cookie is needed. `denies` says
    /// whether there is a deny list.
    pub(crate) fn rewrites(&self, denies: bool) -> bool {
        let rewriting = |action| matches!(action, Action::Reissue | Action::Fallback);
        let limited = |class: Class| {
            let Limit { source, port } = self.limits[class as usize];
            !(source.is_unlimited() && port.is_unlimited())
        };
        let by_limit = |class: Class| limited(class) && rewriting(class.over_limit());
        self.actions.into_iter().any(rewriting)
            || Class::ALL.into_iter().any(by_limit)
            || denies && rewriting(self.denied)
    }
}

impl Policy {
    /// Every port's rule, the default's first, with the port as the program's map has it.
    pub(crate) fn rules(&self) -> impl Iterator<Item = (u32, Rule)> {
        let default = (DEFAULT_PORT, &self.default);
        let ports = self
            .ports
            .iter()
            .map(|(port, rule)| (u32::from(*port), rule));
        let all = std::iter::once(default).chain(ports);
        all.map(|(port, rule)| (port, rule.rule(self.sources)))
    }

    /// How many rules there are at most.
    pub(crate) const MAX_RULES: u32 = PORTS + 1;
}
