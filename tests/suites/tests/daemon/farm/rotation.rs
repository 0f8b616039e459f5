//! Rotations without faults: their duration, their cost for etcd, and revocation.

use std::{collections::BTreeMap, time::Instant};

use anyhow::{Context as _, Result, ensure};

use tfo_testbed::process::ensure_says;

use super::{
    host::{Farm, Host, eventually},
    traffic::Traffic,
};

const HOSTS: usize = 5;

#[test]
fn all_hosts_issue_the_next_key_soon_and_at_little_cost() -> Result<()> {
    let mut farm = Farm::new(HOSTS, "24h", "")?;
    farm.begin()?;
    let rotations: u32 = 10;
    let mut times = Vec::new();
    // The first rotation may have to wait for a leader.
    farm.control(&["rotate", "--now"])?;
    let before = farm.etcd.metrics()?;
    let start = Instant::now();
    for _ in 0..rotations {
        let old = farm.hosts[0].primary()?;
        let from = Instant::now();
        let asked = std::thread::scope(|scope| {
            let asked = scope.spawn(|| farm.control(&["rotate", "--now"]));
            eventually("all hosts issue another key", || {
                let mut keys = farm.hosts.iter().map(Host::primary);
                Ok(keys.all(|key| key.is_ok_and(|key| key != old)))
            })?;
            times.push(from.elapsed());
            asked.join().map_err(|_| anyhow::anyhow!("panicked"))?
        })?;
        ensure_says(&asked, &["all of 5 hosts issue"])?;
        farm.settle()?;
    }
    let took = start.elapsed();
    let after = farm.etcd.metrics()?;
    let keys: Vec<_> = farm.hosts.iter().map(Host::keys).collect::<Result<_>>()?;
    let same = keys.iter().all(|it| *it == keys[0]);
    ensure!(
        same && keys[0].contains(','),
        "not one pair of keys on all hosts"
    );
    times.sort_unstable();
    println!(
        "rotate until all {HOSTS} hosts issue the new key: median {:?}, {:?} to {:?}, {rotations} rotations",
        times[times.len() / 2],
        times[0],
        times[times.len() - 1]
    );
    println!("etcd, per rotation ({rotations} in {took:?}, the looks of the test among it):");
    for (name, more) in growth(&before, &after) {
        println!("  {name}: {:.1}", more / f64::from(rotations));
    }
    Ok(())
}

/// Increase of etcd's counters that measure its load, by series.
fn growth(before: &BTreeMap<String, f64>, after: &BTreeMap<String, f64>) -> Vec<(String, f64)> {
    let telling = |name: &str| {
        let call = name.starts_with("grpc_server_handled_total") && name.contains("\"OK\"");
        let stream = name.starts_with("grpc_server_msg_") && name.contains("stream");
        let size = name.starts_with("etcd_network_client_grpc_");
        let disk = name == "etcd_server_proposals_committed_total"
            || name == "etcd_disk_wal_fsync_duration_seconds_count"
            || name == "etcd_mvcc_put_total"
            || name == "etcd_debugging_mvcc_events_total";
        call || stream || size || disk
    };
    let grown = after.iter().filter(|(name, _)| telling(name));
    let grown = grown.map(|(name, value)| (name.clone(), value - before.get(name).unwrap_or(&0.0)));
    grown.filter(|(_, more)| *more > 0.0).collect()
}

#[test]
fn a_leaked_key_goes_at_once_and_everywhere() -> Result<()> {
    let mut farm = Farm::new(3, "24h", "")?;
    farm.begin()?;
    farm.control(&["rotate", "--now"])?;
    let traffic = Traffic::start(&farm.hosts, &farm.clients)?;
    eventually("clients come with cookies", || {
        Ok(farm.count("TCPFastOpenPassive")? > 0)
    })?;
    let leaked = farm.hosts[0].keys()?;
    ensure!(farm.count("TCPFastOpenPassiveFail")? == 0);
    // Without `--yes`, the command prints the cost and changes nothing.
    let refused = farm
        .control(&["revoke"])
        .err()
        .context("revoke without --yes succeeded")?;
    ensure_says(
        &format!("{refused:#}"),
        &["TCPFastOpenPassiveFail rises", "say --yes"],
    )?;
    ensure!(farm.hosts[0].keys()? == leaked);
    let from = Instant::now();
    let said = farm.control(&["revoke", "--yes"])?;
    println!(
        "revoked on all hosts, as `tfo farm revoke` saw it, after {:?}",
        from.elapsed()
    );
    ensure_says(&said, &["one round trip more", "all of 3 hosts issue"])?;
    let new = farm.hosts[0].keys()?;
    for host in &farm.hosts {
        let keys = host.keys()?;
        ensure!(
            keys == new && !keys.contains(',') && !leaked.contains(&keys),
            "{}",
            host.name
        );
    }
    // Clients get new cookies, which are accepted.
    traffic.wait_for_all(2)?;
    let refused = farm.count("TCPFastOpenPassiveFail")?;
    traffic.wait_for_all(20)?;
    let came = traffic.stop();
    println!("{came}, {refused} cookies refused");
    ensure!(refused > 0);
    ensure!(farm.count("TCPFastOpenPassiveFail")? == refused);
    ensure!(came.failures == 0, "{came}");
    Ok(())
}

/// The services may run before the farm has a document.
#[test]
fn a_farm_is_founded_under_running_services() -> Result<()> {
    let mut farm = Farm::new(2, "24h", "")?;
    for host in &mut farm.hosts {
        host.start()?;
    }
    for host in &farm.hosts {
        eventually("it waits for the document", || {
            Ok(host.tfo.done(&["status"])?.contains("no document"))
        })?;
    }
    farm.control(&["init"])?;
    farm.settle()?;
    ensure!(farm.hosts[0].keys()? == farm.hosts[1].keys()?);
    Ok(())
}
