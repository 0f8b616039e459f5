//! An enemy who may write anything below the farm's prefix in etcd, and does not know the farm's seal.

use std::{fs, thread};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{
    keys,
    process::{self, ensure_says},
};

use super::host::{Farm, PATIENCE, eventually};

const DOCUMENT: &str = "/tfo/document";
const REQUEST: &str = "/tfo/request";

fn record(number: usize) -> String {
    format!("/tfo/hosts/web-{number}")
}

/// The values that the leader has ignored.
fn ignored(farm: &Farm) -> Result<u64> {
    let leader = farm.leader()?.context("no host leads")?;
    let status = farm.hosts[leader].tfo.json(&["status"])?;
    status["farm"]["ignored"].as_u64().context("no count")
}

/// Puts a value, and waits until the leader has ignored it and decided on the rest.
fn put_in_vain(farm: &Farm, key: &str, value: &str) -> Result<()> {
    let before = ignored(farm)?;
    farm.etcd.put(key, value)?;
    eventually("the leader ignores the value", || {
        Ok(ignored(farm).is_ok_and(|now| now > before))
    })
    .map(drop)
}

fn current(farm: &Farm, key: &str) -> Result<String> {
    let value = farm.etcd.ctl(&["get", key, "--print-value-only"])?;
    let value = value.trim_end().to_owned();
    ensure!(!value.is_empty(), "{key} has no value");
    Ok(value)
}

/// The last value that a key had before it was removed.
fn past(farm: &Farm, key: &str) -> Result<String> {
    let now: Value = serde_json::from_str(&farm.etcd.ctl(&["get", key, "-w", "json"])?)?;
    let now = now["header"]["revision"].as_i64().context("no revision")?;
    let at = |revision: i64| {
        let revision = format!("--rev={revision}");
        let value = farm
            .etcd
            .ctl(&["get", key, "--print-value-only", &revision]);
        Some(value.ok()?.trim_end().to_owned()).filter(|value| !value.is_empty())
    };
    let found = (now - 50..=now).rev().find_map(at);
    found.with_context(|| format!("{key} never had a value"))
}

fn position(farm: &Farm) -> Result<(u64, String)> {
    let document = &farm.status()?["document"];
    let phase = document["phase"].as_str().context("no phase")?;
    Ok((farm.epoch()?, phase.to_owned()))
}

#[test]
fn forged_and_replayed_requests_change_nothing() -> Result<()> {
    let mut farm = Farm::new(2, "24h", "")?;
    farm.begin()?;
    let keys = farm.hosts[0].keys()?;
    let (epoch, _) = position(&farm)?;
    for _ in 0..9 {
        put_in_vain(&farm, REQUEST, "\"revoke\"")?;
    }
    let forged = json!({"format": 2, "plain": {"kind": "revoke", "farm": "f", "epoch": epoch, "term": null}});
    put_in_vain(&farm, REQUEST, &forged.to_string())?;
    // A value that a host sealed for another key.
    put_in_vain(&farm, REQUEST, &current(&farm, &record(1))?)?;
    ensure!(farm.hosts[0].keys()? == keys && farm.epoch()? == epoch);
    let shown = farm.control(&["status"])?;
    ensure_says(
        &shown,
        &[
            "ignored: 1 values",
            REQUEST,
            "no host of the farm sealed it",
        ],
    )?;
    // Those that an operator made are fulfilled once.
    for command in [["rotate", "--now"], ["revoke", "--yes"]] {
        farm.control(&command)?;
        farm.settle()?;
        let request = past(&farm, REQUEST)?;
        let keys = farm.hosts[1].keys()?;
        let before = farm.epoch()?;
        for _ in 0..3 {
            put_in_vain(&farm, REQUEST, &request)?;
        }
        ensure!(
            farm.hosts[1].keys()? == keys && farm.epoch()? == before,
            "{command:?}"
        );
        ensure_says(
            &farm.control(&["status"])?,
            &["of an earlier state of the farm"],
        )?;
    }
    farm.control(&["rotate", "--now"])?;
    farm.settle()?;
    let leader = farm.leader()?.context("no host leads")?;
    let log = farm.hosts[leader].end()?;
    let log = log.stdout + &log.stderr;
    let lines = log.matches("in etcd is ignored").count();
    ensure!(
        (1..=8).contains(&lines),
        "{lines} lines of 17 values: {log}"
    );
    Ok(())
}

#[test]
fn forged_acknowledgements_do_not_count() -> Result<()> {
    let mut farm = Farm::new(3, "24h", "")?;
    farm.begin()?;
    // The farm waits for a host that is cut off, whatever is written in its name. The leader is another one.
    let leader = farm.leader()?.context("no host leads")?;
    let silent = (leader + 1) % 3;
    let own = current(&farm, &record(silent + 1))?;
    farm.hosts[silent].connect(&farm.etcd, false)?;
    let old = farm.hosts[silent].keys()?;
    let (epoch, _) = position(&farm)?;
    thread::scope(|scope| -> Result<()> {
        let asked = scope.spawn(|| farm.control(&["rotate", "--now"]));
        eventually("the next key is staged", || {
            Ok(position(&farm)? == (epoch, "stage".to_owned()))
        })?;
        let of_leader = record(leader + 1);
        eventually("the leader has acknowledged", || {
            let status = farm.status()?;
            let host = &status["hosts"][leader];
            Ok(host["acknowledged"] == true)
        })?;
        let step = 2 * epoch + 1;
        let term = farm.status()?["document"]["term"].clone();
        let name = farm.status()?["document"]["farm"].clone();
        let forged = json!({"instance": "x", "version": "0", "step": step});
        let plain = json!({"format": 2, "plain": {"farm": name, "step": step, "term": term}});
        for value in [
            forged.to_string(),
            plain.to_string(),
            current(&farm, &of_leader)?,
        ] {
            put_in_vain(&farm, &record(silent + 1), &value)?;
            ensure!(position(&farm)? == (epoch, "stage".to_owned()), "{value}");
        }
        // Its own earlier acknowledgement, and none.
        farm.etcd.put(&record(silent + 1), &own)?;
        farm.etcd.ctl(&["del", &record(silent + 1)])?;
        put_in_vain(&farm, "/tfo/hosts/ghost", &plain.to_string())?;
        ensure!(position(&farm)? == (epoch, "stage".to_owned()));
        ensure!(farm.hosts[silent].keys()? == old);
        farm.hosts[silent].connect(&farm.etcd, true)?;
        let asked = asked.join().map_err(|_| anyhow::anyhow!("panicked"))??;
        ensure_says(&asked, &["all of 3 hosts issue"])
    })?;
    farm.settle()?;
    ensure_says(
        &farm.control(&["status"])?,
        &["/tfo/hosts/ghost", "it is not sealed"],
    )?;
    Ok(())
}

#[test]
fn a_record_is_written_again_and_a_ghost_stays_away() -> Result<()> {
    let mut farm = Farm::new(3, "24h", "")?;
    farm.begin()?;
    let leader = farm.leader()?.context("no host leads")?;
    let other = (leader + 1) % 3;
    // A record that someone overwrites or removes is written again.
    farm.etcd.put(&record(other + 1), "junk")?;
    farm.etcd.ctl(&["del", &record(leader + 1)])?;
    eventually("both records are back", || {
        let [one, two] = [other, leader].map(|host| current(&farm, &record(host + 1)));
        Ok(one.is_ok_and(|one| one != "junk") && two.is_ok())
    })?;
    farm.settle()?;
    // A host that was forgotten does not come back by its record.
    let last = current(&farm, &record(other + 1))?;
    farm.hosts[other].kill()?;
    let name = format!("web-{}", other + 1);
    farm.control(&["forget", &name])?;
    farm.etcd.put(&record(other + 1), &last)?;
    let said = farm.control(&["rotate", "--now"])?;
    ensure_says(&said, &["all of 2 hosts issue"])?;
    let status = farm.status()?;
    let hosts = status["hosts"].as_array().context("no hosts")?;
    ensure!(
        hosts.iter().all(|host| host["name"] != name.as_str()),
        "{status:#}"
    );
    Ok(())
}

/// Restarts a host as one that has lost its disk and rebooted.
fn start_anew(farm: &mut Farm, number: usize) -> Result<()> {
    let name = farm.hosts[number].name.clone();
    fs::remove_file(farm.scratch.path().join(format!("state/{name}.farm")))?;
    farm.hosts[number]
        .netns
        .set_sysctl(keys::SYSCTL, keys::OTHER)?;
    farm.hosts[number].start()
}

fn wait_for_status(farm: &Farm, number: usize, text: &str) -> Result<()> {
    eventually(text, || {
        let shown = farm.hosts[number].tfo.done(&["status"])?;
        Ok(shown.contains(text))
    })
    .map(drop)
}

#[test]
fn a_revoked_key_does_not_come_back_by_an_old_document() -> Result<()> {
    let mut farm = Farm::new(2, "24h", "")?;
    farm.begin()?;
    let founding = current(&farm, DOCUMENT)?;
    let leaked = farm.hosts[1].primary()?;
    farm.control(&["revoke", "--yes"])?;
    let good = farm.hosts[0].keys()?;
    let present = current(&farm, DOCUMENT)?;
    farm.hosts[1].kill()?;
    farm.etcd.ctl(&["del", &record(2)])?;
    farm.etcd.put(DOCUMENT, &founding)?;
    start_anew(&mut farm, 1)?;
    wait_for_status(&farm, 1, "waits until the leader admits it")?;
    wait_for_status(&farm, 0, "this host is already at epoch 2")?;
    ensure!(farm.hosts[1].keys()? == keys::OTHER && farm.hosts[0].keys()? == good);
    // The host that has the latest document puts it back, and the leader admits the other one.
    farm.control(&["init", "--replace"])?;
    farm.settle()?;
    ensure!(farm.hosts[1].keys()? == good && farm.hosts[1].primary()? != leaked);

    // All hosts have lost their state: nobody can tell which document is the present one.
    for number in [0, 1] {
        farm.hosts[number].kill()?;
    }
    farm.etcd.put(DOCUMENT, &founding)?;
    start_anew(&mut farm, 0)?;
    start_anew(&mut farm, 1)?;
    for number in [0, 1] {
        wait_for_status(&farm, number, "waits until the leader admits it")?;
    }
    farm.hosts[0].kill()?;
    let config = farm.scratch.path().join("web-1.toml");
    let text = fs::read_to_string(&config)?;
    fs::write(&config, text + "least-epoch = 2\n")?;
    farm.hosts[0].start()?;
    wait_for_status(&farm, 0, "it is at epoch 1, and [farm] least-epoch is 2")?;
    for number in [0, 1] {
        ensure!(farm.hosts[number].keys()? == keys::OTHER);
    }
    farm.etcd.put(DOCUMENT, &present)?;
    farm.settle()?;
    for number in [0, 1] {
        ensure!(farm.hosts[number].keys()? == good);
    }
    Ok(())
}

/// Writes `count` values of a MiB below `prefix`.
fn flood(farm: &Farm, prefix: &str, count: u32) -> Result<()> {
    let file = farm.scratch.path().join("junk");
    fs::write(&file, "x".repeat(1 << 20))?;
    let script = format!(
        "for i in $(seq {count}); do etcdctl --endpoints={} put {prefix}$i <{} >/dev/null || exit 1; done",
        farm.etcd.url(),
        file.display()
    );
    let mut shell = farm.etcd.netns.command("sh");
    shell.env("ETCDCTL_API", "3");
    process::succeed(shell.args(["-c", &script]), PATIENCE).map(drop)
}

#[test]
fn junk_below_the_prefix_is_named_and_stops_nothing() -> Result<()> {
    let mut farm = Farm::new(2, "24h", "")?;
    farm.begin()?;
    flood(&farm, "/tfo/other/", 7)?;
    flood(&farm, "/tfo/hosts/junk-", 7)?;
    let shown = farm.control(&["status"])?;
    ensure_says(
        &shown,
        &[
            "ignored: 7 values",
            "/tfo/hosts/junk-1",
            "it has 1048576 bytes, more than a host writes",
        ],
    )?;
    let said = farm.control(&["rotate", "--now"])?;
    ensure_says(&said, &["all of 2 hosts issue"])?;
    // A leader that has to read it all leads, too.
    let leader = farm.leader()?.context("no host leads")?;
    farm.hosts[leader].kill()?;
    farm.hosts[leader].start()?;
    farm.control(&["rotate", "--now"])?;
    farm.settle()?;
    // More than a command reads.
    flood(&farm, "/tfo/hosts/more-", 34)?;
    let refused = farm
        .control(&["status"])
        .err()
        .context("status succeeded")?;
    ensure_says(
        &format!("{refused:#}"),
        &[
            "etcd holds more under /tfo/hosts/ than any farm writes",
            "etcdctl del --prefix /tfo/hosts/",
        ],
    )?;
    farm.etcd.ctl(&["del", "--prefix", "/tfo/hosts/"])?;
    farm.settle()?;
    farm.control(&["rotate", "--now"]).map(drop)
}
