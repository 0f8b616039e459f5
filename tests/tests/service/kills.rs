//! Changes of keys while clients connect: a thousand of them, and two hundred that kill(2) cuts short.

use std::{
    collections::BTreeMap,
    sync::atomic::{AtomicBool, AtomicU32, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use tfo_tests::{
    bed::{Bed, Tally, exchange},
    keys::{self, KeyFile},
    socket::Method,
    veth::{Family, Pair, SERVER_INTERFACE},
};

use crate::running::{Running, eventually, fingerprints, fingerprints_of, kernel_gets, numbered};

fn pair(n: u32) -> String {
    format!("{},{}", numbered(n), numbered(n - 1))
}

#[test]
fn a_kill_at_any_point_of_a_change_refuses_no_cookie() -> Result<()> {
    const KILLS: u32 = 200;
    let bed = Bed::idle(Pair::new()?)?;
    let server = &bed.pair.server;
    let file = KeyFile::new(&pair(1))?;
    let arguments = [
        "-i",
        SERVER_INTERFACE,
        "--key-source",
        "file",
        "--key-file",
        file.path(),
    ];
    let mut running = Running::start(Some(server), &arguments)?;
    let listener = bed.listen(Family::V4)?;
    bed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    let mut random = fastrand::Rng::with_seed(5);
    let mut stages: BTreeMap<&str, u32> = BTreeMap::new();
    let start = Instant::now();
    for n in 2..2 + KILLS {
        file.replace(&pair(n))?;
        thread::sleep(Duration::from_micros(random.u64(500..15_000)));
        running.kill()?;
        let [kernel, accepted] = fingerprints(&bed.tfo)?;
        let new = fingerprints_of(&pair(n))?;
        ensure!(
            kernel.iter().all(|key| accepted.contains(key)),
            "the kernel has {kernel:?}, the data path {accepted:?}"
        );
        let stage = match (kernel == new, accepted.len()) {
            (false, 2) => "before the data path took the new key",
            (false, _) => "before the kernel took it",
            (true, 3) => "before the data path forgot the old one",
            (true, _) => "after all of it",
        };
        *stages.entry(stage).or_default() += 1;
        // The key before is good with either pair.
        bed.in_syn(&listener, Family::V4, Method::SendTo)?;
        running = Running::start(Some(server), &arguments)?;
        kernel_gets(server, &pair(n))?;
        bed.in_syn(&listener, Family::V4, Method::SendTo)?;
    }
    running.end()?;
    // Kills that all come too early or too late would prove nothing.
    ensure!(stages.len() > 1, "{stages:?}");
    println!(
        "{KILLS} kills in {:.1} s: {stages:#?}",
        start.elapsed().as_secs_f64()
    );
    let stats = bed.equal()?;
    ensure!(stats.counters.get("TCPFastOpenPassive") == Some(&i64::from(2 * KILLS)));
    ensure!(stats.counters.get("TCPFastOpenPassiveFail") == Some(&0));
    Ok(())
}

#[test]
fn a_thousand_rotations_under_load_refuse_no_cookie() -> Result<()> {
    const ROTATIONS: u32 = 1000;
    let bed = Bed::idle(Pair::new()?)?;
    let server = &bed.pair.server;
    let file = KeyFile::new(&pair(1))?;
    let arguments = [
        "-i",
        SERVER_INTERFACE,
        "--key-source",
        "file",
        "--key-file",
        file.path(),
    ];
    let running = Running::start(Some(server), &arguments)?;
    let done = AtomicBool::new(false);
    let counts = [AtomicU32::new(0), AtomicU32::new(0)];
    let mut seconds = 0.0;
    thread::scope(|scope| -> Result<()> {
        let loads: Vec<_> = Family::BOTH
            .into_iter()
            .zip(&counts)
            .map(|(family, count)| {
                let (bed, done) = (&bed, &done);
                scope.spawn(move || -> Result<()> {
                    let listener = bed.listen(family)?;
                    bed.after_handshake(&listener, family, Method::SendTo)?;
                    while !done.load(Ordering::Relaxed) {
                        let exchange = exchange(&bed.pair, &listener, family, Method::SendTo)?;
                        ensure!(exchange.in_syn, "a cookie was refused");
                        count.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let start = Instant::now();
        let rotated = (2..2 + ROTATIONS).try_for_each(|n| {
            file.replace(&pair(n))?;
            kernel_gets(server, &pair(n))?;
            // A client that stays away for two changes loses its cookie by design: each comes in between.
            let before = [0, 1].map(|load: usize| counts[load].load(Ordering::Relaxed));
            eventually("every client connected", || {
                ensure!(
                    loads.iter().all(|load| !load.is_finished()),
                    "the load ended"
                );
                let count = |load: usize| counts[load].load(Ordering::Relaxed);
                Ok((0..2).all(|load| count(load) >= before[load] + 2))
            })
            .map(drop)
        });
        seconds = start.elapsed().as_secs_f64();
        done.store(true, Ordering::Relaxed);
        for load in loads {
            load.join()
                .unwrap_or_else(|panic| std::panic::resume_unwind(panic))?;
        }
        rotated
    })?;
    running.end()?;
    let connections: u32 = counts
        .iter()
        .map(|count| count.load(Ordering::Relaxed))
        .sum();
    let (stats, [ours, told, own, drift]) = bed.compare()?;
    println!(
        "{ROTATIONS} rotations in {seconds:.1} s, {connections} connections with a cookie; tfo {ours}, drift {drift}"
    );
    // A SYN may meet a key as the primary in the data path, and a moment later as the backup in the kernel.
    let apart = drift.alt_key.abs();
    ensure!(apart * 100 <= i64::from(ROTATIONS), "{ours}, {own}");
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
    ensure!(
        stats.counters.get("ReasonBadCookie") == Some(&0),
        "{stats:?}"
    );
    ensure!(server.sysctl(keys::SYSCTL)? == pair(1 + ROTATIONS));
    Ok(())
}
