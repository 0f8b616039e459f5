//! Every action by rule, by limit and by list, with the kernel's own client: data arrives once and whole, `tfo` and
//! the kernel count the same, and the client caches the expected cookie.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter,
    policy::{Action, Cause, Class, Limit, Scope},
    rate::Rate,
};
use tfo_testbed::{
    policy::{everywhere, rule},
    veth::Family,
};
use tfo_userspace::model::{LimitedSources, Lists, Policy, PortPolicy, Prefix};

use super::testbed::{Has, PolicyTestbed};

/// One a second, without a burst: a second SYN within the second exceeds it.
const ONE: Rate = Rate {
    per_second: 1,
    burst: 1,
};
/// Time after which the limit allows one more.
const REFILLED: Duration = Duration::from_secs(1);

fn rules(mode: &str, family: Family) -> Result<()> {
    let mut testbed = PolicyTestbed::new(mode, family)?;
    for has in [Has::Valid, Has::Stale, Has::Nothing] {
        for action in Action::WITHOUT_MEMORY {
            if (has, action) == (Has::Nothing, Action::Reissue) {
                continue;
            }
            let policy = everywhere(rule(has.class(), action));
            testbed
                .check(has, policy, None, (action, Cause::Rule))
                .with_context(|| format!("{mode}, {family}: {action:?} of {has:?}"))?;
        }
    }
    Ok(())
}

/// The network of the client.
fn network(family: Family) -> Prefix {
    let (address, len) = match family {
        Family::V4 => ([10, 77, 0, 0].into(), 24),
        Family::V6 => ([0xfd77, 0, 0, 0, 0, 0, 0, 0].into(), 64),
    };
    Prefix { address, len }
}

fn lists(mode: &str, family: Family) -> Result<()> {
    let mut testbed = PolicyTestbed::new(mode, family)?;
    let client = Prefix {
        address: family.client(),
        len: if family == Family::V4 { 32 } else { 128 },
    };
    for action in Action::WITHOUT_MEMORY {
        let denied = PortPolicy {
            denied: action,
            ..PortPolicy::default()
        };
        let policy = Policy {
            lists: Lists {
                allow: Vec::new(),
                deny: vec![network(family)],
            },
            ..everywhere(denied)
        };
        testbed
            .check(Has::Valid, policy.clone(), None, (action, Cause::Denied))
            .with_context(|| format!("{mode}, {family}: denied, {action:?}"))?;

        // The longer prefix decides: this client is allowed despite the rule.
        testbed.prepare(Has::Valid)?;
        testbed.base.set_policy(Some(Policy {
            default: PortPolicy {
                denied: action,
                ..rule(Class::Valid, Action::Drop)
            },
            lists: Lists {
                allow: vec![client],
                ..policy.lists
            },
            ..policy
        }))?;
        let came = testbed.connect()?;
        ensure!(
            came.exchange.in_syn && came.policy == [(Counter::PolicyAllowed, 1)],
            "{mode}, {family}: allowed: {came:?}"
        );
    }
    Ok(())
}

fn limits(mode: &str, family: Family) -> Result<()> {
    let mut testbed = PolicyTestbed::new(mode, family)?;
    for class in Class::ALL {
        let has = match class {
            Class::Valid | Class::Data => Has::Valid,
            Class::Bad => Has::Stale,
            Class::Request => Has::Nothing,
        };
        for scope in [Scope::Source, Scope::Port] {
            let mut limited = PortPolicy::default();
            limited.limits[class as usize] = match scope {
                Scope::Source => Limit {
                    source: ONE,
                    port: Rate::UNLIMITED,
                },
                Scope::Port => Limit {
                    source: Rate::UNLIMITED,
                    port: ONE,
                },
            };
            let policy = Policy {
                // The client shares its source prefix with the address that uses up the limit.
                sources: LimitedSources {
                    v4: 24,
                    ..LimitedSources::default()
                },
                ..everywhere(limited)
            };
            // The first SYN of a prefix passes.
            testbed
                .check(has, policy.clone(), None, (Action::Pass, Cause::Rule))
                .with_context(|| format!("{mode}, {family}: first {class:?}, {scope:?}"))?;
            let done = (Class::OVER_LIMIT, Cause::Limit(class, scope));
            let mut tries = 0;
            loop {
                let start = Instant::now();
                let second = testbed.check(has, policy.clone(), Some(class), done);
                tries += 1;
                if second.is_err() && start.elapsed() >= REFILLED && tries < 20 {
                    // The machine was so slow that the limit was refilled.
                    continue;
                }
                second.with_context(|| format!("{mode}, {family}: second {class:?}, {scope:?}"))?;
                break;
            }
        }
    }
    Ok(())
}

/// Generates a test for each attach mode.
macro_rules! in_every_mode {
    ($($test:ident => $native:ident, $generic:ident, $tc:ident;)*) => {$(
        #[test]
        fn $native() -> Result<()> {
            Family::BOTH.into_iter().try_for_each(|family| $test("native", family))
        }

        #[test]
        fn $generic() -> Result<()> {
            Family::BOTH.into_iter().try_for_each(|family| $test("generic", family))
        }

        #[test]
        fn $tc() -> Result<()> {
            Family::BOTH.into_iter().try_for_each(|family| $test("tc", family))
        }
    )*};
}

in_every_mode! {
    rules => rules_native, rules_generic, rules_tc;
    lists => lists_native, lists_generic, lists_tc;
    limits => limits_native, limits_generic, limits_tc;
}
