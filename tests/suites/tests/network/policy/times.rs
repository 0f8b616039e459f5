//! How long a reply takes over a line with a length, one connection after the other, and whether a client
//! with a stale cookie comes to a fresh one.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tfo_common::policy::Action;
use tfo_testbed::{
    policy::{everywhere, rule},
    veth::{Family, Pair},
};

use super::testbed::{Has, PolicyTestbed};

const ONE_WAY: Duration = Duration::from_millis(150);
/// The kernel's first retransmission timeout.
const TIMEOUT: Duration = Duration::from_secs(1);
/// A loaded machine may take longer than it should, but never shorter: the least of a few counts.
const TRIES: usize = 4;

/// What a connection took, and what the client holds afterwards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Took {
    timeouts: u32,
    /// Round trips until the reply beside that: with the request in the SYN one, else two.
    rounds: u32,
    /// The cookie that the client holds is the server's.
    fresh: bool,
}

const fn took(timeouts: u32, rounds: u32, fresh: bool) -> Took {
    Took {
        timeouts,
        rounds,
        fresh,
    }
}

/// What three connections in a row take.
const fn expected(has: Has, action: Action) -> [Took; 3] {
    let zero = took(0, 1, true);
    let one = took(0, 2, true);
    match (has, action) {
        (Has::Stale, Action::Pass | Action::Reissue) => [one, zero, zero],
        (Has::Stale, Action::Fallback) => [took(0, 2, false); 3],
        (Has::Stale, Action::Drop) => [took(1, 2, false); 3],
        (_, Action::Pass) => [zero; 3],
        (_, Action::Reissue | Action::Fallback) => [one; 3],
        (_, Action::Drop) => [took(1, 2, true); 3],
    }
}

fn measure(testbed: &PolicyTestbed) -> Result<Took> {
    let came = testbed.connect()?;
    let [fresh, _] = testbed.cookies()?;
    let took = came.exchange.took;
    let timeouts = u32::from(took >= TIMEOUT);
    let in_rounds = took.saturating_sub(timeouts * TIMEOUT);
    let round = 2 * ONE_WAY;
    println!("  {took:?} {}", testbed.metrics()?);
    Ok(Took {
        timeouts,
        rounds: (in_rounds.as_millis() / round.as_millis()) as u32,
        fresh: came.cookie == Some(fresh),
    })
}

fn times(family: Family) -> Result<()> {
    let mut testbed = PolicyTestbed::on(Pair::delayed(ONE_WAY)?, "native", family)?;
    for has in [Has::Valid, Has::Stale] {
        for action in Action::ALL {
            let expected = expected(has, action);
            let mut least: Option<[Took; 3]> = None;
            for _ in 0..TRIES {
                println!("{family}: {action:?} of {has:?}");
                testbed.prepare(has)?;
                let policy = everywhere(rule(has.class(), action));
                testbed.base.set_policy(Some(policy))?;
                let mut three = least.unwrap_or(expected);
                for (index, each) in three.iter_mut().enumerate() {
                    let took = measure(&testbed)?;
                    let before = least.map_or(u32::MAX, |least| least[index].rounds);
                    let rounds = took.rounds.min(before);
                    *each = Took { rounds, ..took };
                }
                least = Some(three);
                if three == expected {
                    break;
                }
            }
            ensure!(
                least == Some(expected),
                "{family}: {action:?} of {has:?}: expected {expected:?}, got {least:?}"
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

/// A request that is not answered has the client ask by the experimental option next, and then again as
/// before; a dropped one costs a timeout each time.
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
        // Once the policy is gone, the client gets its cookie and uses it.
        testbed.base.set_policy(None)?;
        ensure!(testbed.connect()?.tally.requests == 1);
        ensure!(testbed.connect()?.exchange.in_syn);
    }
    Ok(())
}
