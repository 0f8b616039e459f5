//! Rotations under load while hosts, the leader and etcd are killed, stopped and disconnected: no cookie is refused.

use std::{
    collections::BTreeMap,
    env, fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Result, ensure};
use rustix::process::Signal;

use tfo_testbed::process::ensure_says;

use super::{
    host::{Farm, eventually},
    own_cookies,
    traffic::Traffic,
};

const HOSTS: usize = 5;
/// The rotation interval: the shortest time for which a key is primary. Clients that return sooner are never refused.
const INTERVAL: &str = "3s";

/// Number of rotations: `TFO_FARM_ROTATIONS`, else 12.
fn rotations() -> u64 {
    let set = env::var("TFO_FARM_ROTATIONS").ok();
    set.and_then(|number| number.parse().ok()).unwrap_or(12)
}

/// Injects one fault and repairs it. Returns its name.
fn fault(farm: &mut Farm, random: &mut fastrand::Rng, number: u64) -> Result<&'static str> {
    let leader = farm.leader()?;
    let host = match leader {
        Some(leader) => (leader + random.usize(1..HOSTS)) % HOSTS,
        None => random.usize(..HOSTS),
    };
    let rest = |most: u64, random: &mut fastrand::Rng| {
        thread::sleep(Duration::from_millis(random.u64(..most)));
    };
    // Long enough for the leader's lease to expire in some rounds.
    let dead = if number.is_multiple_of(4) {
        18_000
    } else {
        2_000
    };
    match (number % 7, leader) {
        (1, Some(leader)) => {
            farm.hosts[leader].kill()?;
            thread::sleep(Duration::from_millis(dead));
            farm.hosts[leader].start()?;
            Ok("kill -9 of the leader")
        }
        (2, _) => {
            farm.etcd.kill()?;
            rest(3000, random);
            farm.etcd.restart()?;
            farm.etcd.wait()?;
            Ok("kill -9 of etcd")
        }
        (3, _) => {
            farm.hosts[host].connect(&farm.etcd, false)?;
            rest(6000, random);
            farm.hosts[host].connect(&farm.etcd, true)?;
            Ok("a host cut off from etcd")
        }
        (4, Some(leader)) => {
            farm.hosts[leader].connect(&farm.etcd, false)?;
            thread::sleep(Duration::from_millis(dead));
            farm.hosts[leader].connect(&farm.etcd, true)?;
            Ok("the leader cut off from etcd")
        }
        (5, _) => {
            farm.hosts[host].signal(Signal::STOP)?;
            rest(4000, random);
            farm.hosts[host].signal(Signal::CONT)?;
            Ok("a host that is slow (SIGSTOP)")
        }
        (6, _) => {
            let other = (host + 1) % HOSTS;
            farm.hosts[host].kill()?;
            farm.hosts[other].connect(&farm.etcd, false)?;
            rest(3000, random);
            farm.hosts[host].start()?;
            farm.hosts[other].connect(&farm.etcd, true)?;
            Ok("kill -9 of a host, another one cut off")
        }
        _ => {
            farm.hosts[host].kill()?;
            rest(2000, random);
            farm.hosts[host].start()?;
            Ok("kill -9 of a host")
        }
    }
}

#[test]
fn no_cookie_is_refused_whatever_goes_wrong() -> Result<()> {
    rotate_with_faults("", rotations())
}

#[test]
fn no_own_cookie_is_refused_whatever_goes_wrong() -> Result<()> {
    rotate_with_faults(own_cookies::SECTION, rotations())
}

/// `section` is added to the hosts' configuration.
fn rotate_with_faults(section: &str, rotations: u64) -> Result<()> {
    let mut random = tfo_testbed::seed::rng_with(7)?;
    let mut farm = Farm::new(HOSTS, INTERVAL, &format!("patience = \"10m\"\n{section}"))?;
    farm.begin()?;
    if !section.is_empty() {
        own_cookies::all_issue(&farm, true)?;
    }
    let traffic = Traffic::start(&farm.hosts, &farm.clients)?;
    let start = Instant::now();
    let first = farm.epoch()?;
    let mut faults: BTreeMap<&str, u64> = BTreeMap::new();
    let mut number = 0;
    let mut epoch = first;
    while epoch < first + rotations {
        let what = fault(&mut farm, &mut random, number)?;
        *faults.entry(what).or_default() += 1;
        number += 1;
        // One or two rotations without a fault, so that the next fault has connections to disturb.
        let next = epoch + 1;
        eventually("the farm rotates", || {
            let refused = farm.count("TCPFastOpenPassiveFail")?;
            ensure!(refused == 0, "{refused} refused after {what}, {faults:?}");
            epoch = farm.epoch().unwrap_or(epoch);
            thread::sleep(Duration::from_millis(500));
            Ok(epoch > next)
        })?;
    }
    let status = farm.settle()?;
    let took = start.elapsed();
    let came = traffic.stop();
    let count = |name: &str| farm.count(name);
    println!(
        "| rotations | faults | connections | in the SYN | by the backup key | refused | failed | time |\n\
         |---|---|---|---|---|---|---|---|\n| {} | {number} | {} | {} | {} | {} | {} | {} s |",
        epoch - first,
        came.connections,
        count("TCPFastOpenPassive")?,
        count("TCPFastOpenPassiveAltKey")?,
        count("TCPFastOpenPassiveFail")?,
        came.failures,
        took.as_secs()
    );
    for (what, times) in faults {
        println!("{times} times {what}");
    }
    for host in status["hosts"].as_array().into_iter().flatten() {
        println!("{}: clock off by {} s", host["name"], host["skew"]);
    }
    ensure!(count("TCPFastOpenPassiveFail")? == 0);
    let by_backup = count("TCPFastOpenPassiveAltKey")?;
    ensure!(
        by_backup > 0 && came.connections > 0,
        "{by_backup} by the backup key of {came}"
    );
    ensure!(came.failures == 0, "{came}");
    Ok(())
}

#[test]
fn without_etcd_nothing_rotates_and_a_restart_loses_nothing() -> Result<()> {
    let mut farm = Farm::new(2, "2s", "")?;
    farm.begin()?;
    farm.control(&["rotate", "--now"])?;
    farm.etcd.kill()?;
    eventually("the host misses etcd", || {
        let shown = farm.hosts[1].tfo.done(&["status"])?;
        Ok(shown.contains("without etcd for"))
    })?;
    // What it had read before may come into force still, of which nothing tells: until they stand still for an interval.
    let mut last = (farm.hosts[1].keys()?, Instant::now());
    eventually("what it had read is in force", || {
        let now = farm.hosts[1].keys()?;
        if now != last.0 {
            last = (now, Instant::now());
        }
        Ok(last.1.elapsed() > Duration::from_secs(2))
    })?;
    let keys = last.0;
    thread::sleep(Duration::from_secs(5));
    ensure!(
        farm.hosts[1].keys()? == keys,
        "the keys changed without etcd"
    );
    let shown = farm.hosts[1].tfo.done(&["status"])?;
    ensure_says(
        &shown,
        &[
            "farm: web-2 of /tfo/, epoch",
            "without etcd for",
            "10.99.0.254",
        ],
    )?;
    // As after a reboot: the kernel has other keys, and only the state file has the farm's.
    farm.hosts[1].kill()?;
    farm.hosts[1]
        .netns
        .set_sysctl(tfo_testbed::keys::SYSCTL, tfo_testbed::keys::OTHER)?;
    farm.hosts[1].start()?;
    eventually("the host has its keys again", || {
        Ok(farm.hosts[1].keys()? == keys)
    })?;
    let state = farm.scratch.path().join("state/web-2.farm");
    let stored = fs::read_to_string(&state)?;
    let mode = std::os::unix::fs::PermissionsExt::mode(&fs::metadata(&state)?.permissions());
    ensure!(
        mode & 0o777 == 0o600 && stored.contains("sealed"),
        "{mode:o}"
    );
    let primary = keys.split(',').next().unwrap_or_default().replace('-', "");
    ensure!(!stored.contains(&primary));
    farm.etcd.restart()?;
    farm.etcd.wait()?;
    let epoch = farm.epoch()?;
    eventually("the farm goes on", || {
        Ok(farm.epoch().is_ok_and(|now| now > epoch + 1))
    })?;
    farm.settle().map(drop)
}

#[test]
fn a_host_that_is_silent_for_too_long_is_left_behind_and_comes_back() -> Result<()> {
    let mut farm = Farm::new(3, "24h", "patience = \"4s\"")?;
    farm.begin()?;
    let old = farm.hosts[2].keys()?;
    farm.hosts[2].connect(&farm.etcd, false)?;
    let said = farm.control(&["rotate", "--now"])?;
    ensure_says(&said, &["all of 2 hosts issue"])?;
    ensure!(
        farm.hosts[2].keys()? == old,
        "it has a key that it cannot know"
    );
    let status = farm.status()?;
    ensure!(status["hosts"][2]["left_behind"] == true, "{status:#}");
    farm.hosts[2].connect(&farm.etcd, true)?;
    farm.settle()?;
    ensure!(farm.hosts[2].keys()? == farm.hosts[0].keys()?);
    let leader = farm.leader()?.unwrap_or(0);
    let log = farm.hosts[leader].end()?;
    let log = log.stdout + &log.stderr;
    ensure_says(
        &log,
        &["host web-3 has not acknowledged", "going on without it"],
    )
}
