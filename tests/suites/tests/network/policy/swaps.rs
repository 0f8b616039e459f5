//! Atomic replacement of a policy while clients connect.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::{
    counters::Counter,
    policy::{Action, Class},
};
use tfo_testbed::{
    policy::{everywhere, rule},
    socket::Method,
    testbed::Testbed,
    veth::Family,
};

const SWAPS: usize = 200;

#[test]
fn no_connection_is_lost_to_two_hundred_swaps() -> Result<()> {
    let testbed = Testbed::new()?;
    for family in Family::BOTH {
        testbed.request_cookie(&testbed.listen(family)?, family)?;
    }
    let policies =
        [Action::Reissue, Action::Fallback].map(|action| everywhere(rule(Class::Valid, action)));
    let done = AtomicBool::new(false);
    let connections = thread::scope(|scope| -> Result<usize> {
        let clients = Family::BOTH.map(|family| {
            let (testbed, done) = (&testbed, &done);
            scope.spawn(move || -> Result<usize> {
                let listener = testbed.listen(family)?;
                let mut connections = 0;
                while !done.load(Ordering::Relaxed) {
                    testbed
                        .exchange(&listener, family, Method::SendTo)
                        .with_context(|| format!("{family}, connection {connections}"))?;
                    connections += 1;
                }
                Ok(connections)
            })
        });
        // Each policy must apply to some connections, however slow the machine is.
        let enough = || -> Result<bool> {
            let total = testbed.drift()?.ours.total;
            let met = [Counter::PolicyReissue, Counter::PolicyFallback];
            Ok(met.iter().all(|counter| total.get(*counter) > 20)
                || clients.iter().any(ScopedJoinHandle::is_finished))
        };
        let swap = || -> Result<()> {
            let mut swaps = 0;
            while swaps < SWAPS || !enough()? {
                testbed.set_policy(Some(policies[swaps % 2].clone()))?;
                swaps += 1;
            }
            Ok(())
        };
        let swapped = swap();
        done.store(true, Ordering::Relaxed);
        let connections = clients.map(|client| client.join().expect("no panic"));
        swapped?;
        let [v4, v6] = connections;
        Ok(v4? + v6?)
    })?;
    let stats = testbed.equal()?;
    println!("{SWAPS} swaps, {connections} connections: {stats:?}");
    let count = |counter: Counter| stats.counters.get(counter.name()).copied().unwrap_or(0);
    // Exactly one policy applied to each SYN, except those before the first policy.
    let met = count(Counter::PolicyReissue) + count(Counter::PolicyFallback);
    ensure!(
        count(Counter::PolicyReissue) > 20 && count(Counter::PolicyFallback) > 20,
        "{stats:?}"
    );
    ensure!(
        met + count(Counter::Passive) == i64::try_from(connections)?
            && count(Counter::Syns) == i64::try_from(connections)? + 2,
        "{connections} connections: {stats:?}"
    );
    Ok(())
}
