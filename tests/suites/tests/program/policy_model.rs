//! A simple model of policies, without time: limits do not refill.

use std::{
    collections::{HashMap, HashSet},
    net::IpAddr,
};

use tfo_common::{
    counters::Counter,
    policy::{Action, Class, Limit, once::OnceBy},
    rate::Rate,
};
use tfo_userspace::model::{LimitedSources, Policy, PortPolicy, Prefix};

use crate::policy_case::Case;

/// The owner of a token bucket: the rule's port, `None` for the default rule; the class; for limits by source, the
/// source and the destination port.
type Owner = (Option<u16>, usize, Option<(u128, bool, u16)>);

/// The key that equal SYNs share: the client; for copies of segments, the port; and the number of
/// bytes of data, which are all alike.
type Sameness = (IpAddr, Option<u16>, usize);

/// The model's state: the policy, the SYNs that each bucket has passed, and the data that came.
pub(crate) struct Model<'a> {
    policy: &'a Policy,
    taken: HashMap<Owner, u32>,
    came: HashSet<Sameness>,
}

/// The action and its cause, enforced or in a dry run.
#[derive(Debug, PartialEq)]
pub(crate) enum Decision {
    Nothing,
    Allowed,
    /// The data came for the first time.
    First,
    Done(Action, &'static str, bool),
}

impl<'a> Model<'a> {
    pub(crate) fn new(policy: &'a Policy) -> Self {
        Self {
            policy,
            taken: HashMap::new(),
            came: HashSet::new(),
        }
    }

    pub(crate) fn decide(&mut self, syn: &Case) -> Decision {
        let Some(class) = syn.class() else {
            return Decision::Nothing;
        };
        let own = self.policy.ports.get(&syn.port);
        let rule = *own.unwrap_or(&self.policy.default);
        let named = own.map(|_| syn.port);
        let longest = |prefixes: &[Prefix]| {
            let holding = prefixes.iter().filter(|prefix| holds(**prefix, syn.client));
            holding.map(|prefix| prefix.len).max()
        };
        let lists = &self.policy.lists;
        let (allowed, denied) = (longest(&lists.allow), longest(&lists.deny));
        let (action, cause) = if allowed.is_some() && allowed > denied {
            return Decision::Allowed;
        } else if denied.is_some() {
            (rule.denied, "Denied".to_owned())
        } else if let Some((class, scope)) = self.over_limit(syn, class, &rule, named) {
            // A limit never drops a SYN: others share it.
            (Action::Fallback, format!("{}{scope}", title(class)))
        } else {
            match rule.actions[class as usize] {
                Action::Once if syn.data == 0 => return Decision::Nothing,
                Action::Once if self.came.insert(sameness(syn, rule.once_by)) => {
                    return Decision::First;
                }
                Action::Once => (Action::Reissue, "Repeated".to_owned()),
                action => (action, "Rule".to_owned()),
            }
        };
        let action = match (action, class) {
            (Action::Pass, _)
            | (Action::Reissue | Action::Fallback, Class::Data)
            | (Action::Reissue, Class::Request) => return Decision::Nothing,
            (Action::Reissue | Action::Fallback, _) if syn.several() => Action::Drop,
            (action, _) => action,
        };
        let cause = Counter::POLICY
            .iter()
            .find(|counter| counter.name() == format!("Policy{cause}"));
        Decision::Done(
            action,
            &cause.unwrap().name()["Policy".len()..],
            rule.dry_run,
        )
    }

    fn over_limit(
        &mut self,
        case: &Case,
        class: Class,
        rule: &PortPolicy,
        named: Option<u16>,
    ) -> Option<(Class, &'static str)> {
        // The data limit applies to valid cookies only: no other SYN has its data accepted here.
        let limits: &[Class] = match class {
            Class::Valid if case.data > 0 => &[Class::Valid, Class::Data],
            Class::Data => &[],
            _ => &[class],
        };
        for &class in limits {
            let Limit { source, port } = rule.limits[class as usize];
            let prefix = self.prefix(case.client);
            let of_source = (named, class as usize, Some((prefix.0, prefix.1, case.port)));
            if !self.take(of_source, source) {
                return Some((class, "Source"));
            }
            if !self.take((named, class as usize, None), port) {
                return Some((class, "Port"));
            }
        }
        None
    }

    fn take(&mut self, owner: Owner, rate: Rate) -> bool {
        if rate.is_unlimited() {
            return true;
        }
        let taken = self.taken.entry(owner).or_default();
        *taken += 1;
        *taken <= rate.burst
    }

    fn prefix(&self, client: IpAddr) -> (u128, bool) {
        let LimitedSources { v4, v6, .. } = self.policy.sources;
        match client {
            IpAddr::V4(address) => {
                let bits = u128::from(address.to_bits());
                (bits.checked_shr(32 - u32::from(v4)).unwrap_or(0), true)
            }
            IpAddr::V6(address) => {
                let gone = 128 - u32::from(v6);
                (address.to_bits().checked_shr(gone).unwrap_or(0), false)
            }
        }
    }
}

fn sameness(syn: &Case, by: OnceBy) -> Sameness {
    match by {
        OnceBy::Duplicate => (syn.client, Some(syn.port), syn.data.min(16)),
        OnceBy::Content => (syn.client, None, syn.data.min(64)),
    }
}

fn holds(prefix: Prefix, client: IpAddr) -> bool {
    let len = u32::from(prefix.len);
    match (prefix.address, client) {
        (IpAddr::V4(prefix), IpAddr::V4(client)) => {
            (prefix.to_bits() ^ client.to_bits()).leading_zeros() >= len
        }
        (IpAddr::V6(prefix), IpAddr::V6(client)) => {
            (prefix.to_bits() ^ client.to_bits()).leading_zeros() >= len
        }
        _ => false,
    }
}

fn title(class: Class) -> &'static str {
    match class {
        Class::Valid => "Valid",
        Class::Bad => "Bad",
        Class::Request => "Request",
        Class::Data => "Data",
    }
}
