//! Key changes while clients connect: 1,000 rotations, and 200 that SIGKILL interrupts.

use std::{
    collections::BTreeMap,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    returning::while_clients_return,
    seed::rng_with,
    socket::Method,
    testbed::{Tally, Testbed},
    veth::{Family, Pair},
};

use super::running::{Running, by_file, fingerprints, fingerprints_of, kernel_gets, numbered};

fn pair(n: u32) -> String {
    format!("{},{}", numbered(n), numbered(n - 1))
}

#[test]
fn a_kill_at_any_point_of_a_change_refuses_no_cookie() -> Result<()> {
    const KILLS: u32 = 200;
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let file = KeyFile::new(&pair(1))?;
    let arguments = by_file(&file);
    let mut running = Running::start(Some(server), &arguments)?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let mut random = rng_with(5)?;
    let mut points: BTreeMap<&str, u32> = BTreeMap::new();
    // The time from a change of the file to the kill: up to the longest time that a change has taken.
    let mut longest = Duration::from_millis(15);
    let start = Instant::now();
    for n in 2..2 + KILLS {
        file.replace(&pair(n))?;
        thread::sleep(longest.mul_f64(random.f64()));
        running.kill()?;
        let [kernel, accepted] = fingerprints(&testbed.tfo)?;
        let new = fingerprints_of(&pair(n))?;
        ensure!(
            kernel.iter().all(|key| accepted.contains(key)),
            "the kernel has {kernel:?}, the data path {accepted:?}"
        );
        let point = match (kernel == new, accepted.len()) {
            (false, 2) => "before the data path took the new key",
            (false, _) => "before the kernel took it",
            (true, 3) => "before the data path forgot the old one",
            (true, _) => "after all of it",
        };
        *points.entry(point).or_default() += 1;
        // The previous key is in both the old and the new pair.
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        running = Running::start(Some(server), &arguments)?;
        let took = kernel_gets(server, &pair(n))?;
        longest = longest.max(took.min(Duration::from_millis(200)));
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    }
    running.end()?;
    // The kills must hit more than one point of the change.
    ensure!(points.len() > 1, "{points:?}");
    println!(
        "{KILLS} kills in {:.1} s: {points:#?}",
        start.elapsed().as_secs_f64()
    );
    let stats = testbed.equal()?;
    ensure!(stats.counters.get("TCPFastOpenPassive") == Some(&i64::from(2 * KILLS)));
    ensure!(stats.counters.get("TCPFastOpenPassiveFail") == Some(&0));
    Ok(())
}

#[test]
fn a_thousand_rotations_under_load_refuse_no_cookie() -> Result<()> {
    const ROTATIONS: u32 = 1000;
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let file = KeyFile::new(&pair(1))?;
    let running = Running::start(Some(server), &by_file(&file))?;
    let start = Instant::now();
    let visits = while_clients_return(&testbed, |wait| {
        (2..2 + ROTATIONS).try_for_each(|n| {
            file.replace(&pair(n))?;
            kernel_gets(server, &pair(n))?;
            wait()
        })
    })?;
    let seconds = start.elapsed().as_secs_f64();
    running.end()?;
    ensure!(server.sysctl(keys::SYSCTL)? == pair(1 + ROTATIONS));
    let connections = visits.connections;
    ensure!(visits.refused == 0, "cookies were refused: {visits:?}");
    println!("{ROTATIONS} rotations in {seconds:.1} s, {connections} connections with a cookie");
    ensure_none_failed(&testbed, connections, ROTATIONS)
}

/// Fails unless the kernel accepted `connections` cookies, refused none, and `tfo` counted the same.
fn ensure_none_failed(testbed: &Testbed, connections: u32, rotations: u32) -> Result<()> {
    let (_, [ours, told, own, drift]) = testbed.compare()?;
    println!("tfo        {ours}\nthe kernel {own}");
    // A SYN may meet a key as primary in the data path and as backup in the kernel: 5 times in 1,000 rotations on an
    // idle host, 17 times on a busy one.
    let apart = drift.alt_key.abs();
    ensure!(apart * 20 <= i64::from(rotations), "{ours}, {own}");
    let but_for_the_key = |tally: Tally| Tally {
        alt_key: 0,
        ..tally
    };
    ensure!(
        told == own && but_for_the_key(drift) == Tally::default(),
        "{ours}, {own}"
    );
    let expected = Tally {
        requests: 2,
        passive: i64::from(connections),
        ..Tally::default()
    };
    ensure!(but_for_the_key(own) == expected, "{connections}: {own}");
    Ok(())
}
