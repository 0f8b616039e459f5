//! Latency of replies over a link with delay, for consecutive connections, and recovery of clients with a stale
//! cookie.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tfo_common::policy::Action;
use tfo_testbed::{
    policy::{everywhere, rule},
    veth::{Family, Pair},
};

use super::testbed::{Has, PolicyTestbed};

const ONE_WAY: Duration = Duration::from_millis(150);
/// The kernel's initial retransmission timeout.
const TIMEOUT: Duration = Duration::from_secs(1);

/// The duration of a connection, and the client's cookie after it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Took {
    /// Number of SYN retransmissions, each after a timeout.
    timeouts: u64,
    /// Number of round trips without them until the reply: 1 with the request in the SYN, else 2.
    rounds: u32,
    /// The client's cached cookie is valid.
    fresh: bool,
}

const fn took(timeouts: u64, rounds: u32, fresh: bool) -> Took {
    Took {
        timeouts,
        rounds,
        fresh,
    }
}

/// Expected results of three consecutive connections.
const fn expected(has: Has, action: Action) -> [Took; 3] {
    let zero = took(0, 1, true);
    let one = took(0, 2, true);
    match (has, action) {
        (Has::Stale, Action::Pass | Action::Reissue | Action::Once) => [one, zero, zero],
        (Has::Stale, Action::Fallback) => [took(0, 2, false); 3],
        (Has::Stale, Action::Drop) => [took(1, 2, false); 3],
        (_, Action::Pass | Action::Once) => [zero; 3],
        (_, Action::Reissue | Action::Fallback) => [one; 3],
        (_, Action::Drop) => [took(1, 2, true); 3],
    }
}

fn measure(testbed: &PolicyTestbed) -> Result<Took> {
    let came = testbed.connect()?;
    let [fresh, _] = testbed.cookies()?;
    println!("  {:?} {}", came.exchange.took, testbed.metrics()?);
    let took = Took {
        timeouts: came.retransmitted,
        rounds: if came.exchange.in_syn { 1 } else { 2 },
        fresh: came.cookie == Some(fresh),
    };
    // A busy machine may take longer, never less.
    let least = 2 * ONE_WAY * took.rounds + TIMEOUT * u32::try_from(took.timeouts)?;
    ensure!(
        came.exchange.took >= least,
        "{took:?} within {:?}",
        came.exchange.took
    );
    Ok(took)
}

fn times(family: Family) -> Result<()> {
    let mut testbed = PolicyTestbed::on(Pair::delayed(ONE_WAY)?, "native", family)?;
    for has in [Has::Valid, Has::Stale] {
        for action in Action::ALL {
            println!("{family}: {action:?} of {has:?}");
            testbed.prepare(has)?;
            let policy = everywhere(rule(has.class(), action));
            testbed.base.set_policy(Some(policy))?;
            let mut three = [took(0, 0, false); 3];
            for took in &mut three {
                *took = measure(&testbed)?;
            }
            let expected = expected(has, action);
            ensure!(
                three == expected,
                "{family}: {action:?} of {has:?}: expected {expected:?}, got {three:?}"
            );
        }
    }
    Ok(())
}

#[test]
fn a_reply_takes_as_many_round_trips_as_it_should_v4() -> Result<()> {
    times(Family::V4)
}

#[test]
fn a_reply_takes_as_many_round_trips_as_it_should_v6() -> Result<()> {
    times(Family::V6)
}

/// A request without an answer makes the client try the experimental option next, then the standard one again. A
/// dropped SYN costs a timeout each time.
#[test]
fn what_becomes_of_requests_that_never_arrive() -> Result<()> {
    for action in [Action::Fallback, Action::Drop] {
        let mut testbed = PolicyTestbed::new("native", Family::V4)?;
        testbed.prepare(Has::Nothing)?;
        let policy = everywhere(rule(Has::Nothing.class(), action));
        testbed.base.set_policy(Some(policy))?;
        let mut experimental = Vec::new();
        for _ in 0..4 {
            let counted = |testbed: &PolicyTestbed| -> Result<_> {
                let total = testbed.base.drift()?.ours.total;
                Ok(total.get(tfo_common::counters::Counter::OptionsExperimental))
            };
            let before = counted(&testbed)?;
            testbed.connect().with_context(|| format!("{action:?}"))?;
            experimental.push(counted(&testbed)? - before);
        }
        println!("{action:?}: {experimental:?} {}", testbed.metrics()?);
        let expected = match action {
            Action::Fallback => [0, 1, 0, 0],
            _ => [0; 4],
        };
        ensure!(experimental == expected, "{action:?}: {experimental:?}");
        // Without the policy, the client gets its cookie and uses it.
        testbed.base.set_policy(None)?;
        let asked = testbed.connect()?;
        ensure!(asked.tally.requests == 1, "{action:?}: {asked:?}");
        let used = testbed.connect()?;
        ensure!(used.exchange.in_syn, "{action:?}: {used:?}");
    }
    Ok(())
}
