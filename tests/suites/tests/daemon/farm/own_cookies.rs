//! Own cookies whose secrets are the farm's: what any host issues, all take.

use std::{fs, time::Duration};

use anyhow::{Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tfo_testbed::process::ensure_says;

use super::{
    host::{Farm, Host, eventually},
    traffic::{Traffic, ask},
};

/// The section that is added to the hosts' configuration.
pub(crate) const SECTION: &str = "[cookies]\nsource = \"etcd\"\nservice = \"web\"\n";
const HOSTS: usize = 3;
/// A client that rests while others connect.
const RESTING: u8 = 9;

fn shown(host: &Host) -> Result<Value> {
    host.tfo.json(&["cookies", "show"])
}

/// Waits until every host issues own cookies, or none does.
pub(crate) fn all_issue(farm: &Farm, issues: bool) -> Result<Duration> {
    let what = format!("all hosts issue own cookies: {issues}");
    eventually(&what, || {
        let mut shown = farm.hosts.iter().map(shown);
        Ok(shown.all(|it| it.is_ok_and(|it| it["issues"] == issues)))
    })
}

/// Own cookies that the hosts issued and took, in all.
fn counted(farm: &Farm, counter: &str) -> Result<u64> {
    let mut sum = 0;
    for host in &farm.hosts {
        let stats = host.tfo.json(&["stats"])?;
        sum += stats["counters"][counter].as_u64().unwrap_or_default();
    }
    Ok(sum)
}

#[test]
fn a_cookie_outlives_the_keys_of_the_farm() -> Result<()> {
    let mut farm = Farm::new(HOSTS, "24h", SECTION)?;
    farm.begin()?;
    all_issue(&farm, true)?;
    let traffic = Traffic::start(&farm.hosts, &farm.clients)?;
    let enter = || farm.clients.run(|| ask(RESTING));
    // A SYN that a busy machine sends again has no data. A refused cookie is counted.
    let with_cookie = || Ok::<_, anyhow::Error>(enter()? || enter()?);
    ensure!(!enter()?, "the first SYN has no cookie");
    ensure!(with_cookie()?, "the second has one");
    let leaked = shown(&farm.hosts[0])?["slot"].clone();
    let rotations = 5;
    for _ in 0..rotations {
        farm.control(&["rotate", "--now"])?;
        farm.settle()?;
        traffic.wait_for_all(3)?;
    }
    for host in &farm.hosts {
        let shown = shown(host)?;
        ensure!(
            shown["secrets"] == "etcd" && shown["issues"] == true,
            "{shown}"
        );
        ensure!(shown["slot"] == farm.epoch()?, "{shown}");
        ensure!(shown["slot"] != leaked, "{shown}");
    }
    // The kernels have had other keys for long.
    ensure!(with_cookie()?, "data of a client that rested is taken");
    let refused = farm.count("TCPFastOpenPassiveFail")?;
    ensure!(refused == 0, "{refused} refused");
    // A revocation costs each client one round trip, once.
    farm.control(&["revoke", "--yes"])?;
    eventually("every host issues by the new secret", || {
        let epoch = farm.epoch()?;
        let mut shown = farm.hosts.iter().map(shown);
        Ok(shown.all(|it| it.is_ok_and(|it| it["slot"] == epoch && it["issues"] == true)))
    })?;
    ensure!(!enter()?, "data is not taken by a revoked cookie");
    ensure!(with_cookie()?, "data is taken by the next one");
    traffic.wait_for_all(2)?;
    let refused = farm.count("TCPFastOpenPassiveFail")?;
    traffic.wait_for_all(20)?;
    let came = traffic.stop();
    let issued = counted(&farm, "OwnIssued")?;
    let taken = counted(&farm, "OwnYoung")? + counted(&farm, "OwnLasting")?;
    println!(
        "{came}; {issued} own cookies issued, {taken} taken; refused by the revocation: {refused}"
    );
    ensure!(issued > 0 && taken > came.connections / 2 && refused > 0);
    ensure!(farm.count("TCPFastOpenPassiveFail")? == refused);
    ensure!(came.failures == 0, "{came}");
    Ok(())
}

/// While a host takes none, or by other rules, clients get the kernel's cookies, which all hosts take.
#[test]
fn hosts_issue_own_cookies_once_all_take_them() -> Result<()> {
    let mut farm = Farm::new(HOSTS, "24h", "")?;
    farm.begin()?;
    let traffic = Traffic::start(&farm.hosts, &farm.clients)?;
    let configure = |farm: &Farm, number: usize, section: &str| -> Result<()> {
        let host = &farm.hosts[number];
        let path = farm.scratch.path().join(format!("{}.toml", host.name));
        let text = fs::read_to_string(&path)?;
        let before = text.split("[cookies]").next().unwrap_or_default();
        fs::write(&path, format!("{before}{section}"))?;
        host.signal(Signal::HUP)
    };
    let taken_by = |farm: &Farm, hosts: usize| {
        farm.until("the farm knows who takes own cookies", |status| {
            let hosts_of = status["hosts"].as_array()?;
            let taking = hosts_of
                .iter()
                .filter(|host| host["own_cookies"].is_string());
            (taking.count() == hosts).then_some(())
        })
    };
    for number in 0..HOSTS {
        configure(&farm, number, SECTION)?;
        let status = taken_by(&farm, number + 1)?;
        let all = number == HOSTS - 1;
        if !all {
            ensure!(status["document"]["own_cookies"].is_null(), "{status:#}");
            taken_and_not_issued(&farm.hosts[..=number])?;
        }
    }
    all_issue(&farm, true)?;
    traffic.wait_for_all(10)?;
    ensure_says(&farm.control(&["status"])?, &["own cookies"])?;
    ensure!(farm.count("TCPFastOpenPassiveFail")? == 0);
    let none_issued = |farm: &Farm| {
        farm.until("hosts stop to issue them", |status| {
            status["document"]["own_cookies"].is_null().then_some(())
        })
    };
    // Cleared by hand on one host, until a reload.
    farm.hosts[2].tfo.done(&["cookies", "clear"])?;
    none_issued(&farm)?;
    farm.hosts[2].signal(Signal::HUP)?;
    all_issue(&farm, true)?;
    // One host with other rules.
    configure(&farm, 1, &SECTION.replace("web", "mail"))?;
    none_issued(&farm)?;
    all_issue(&farm, false)?;
    let came = traffic.stop();
    println!("{came}");
    ensure!(came.failures == 0, "{came}");
    Ok(())
}

/// These hosts take own cookies, and issue none.
fn taken_and_not_issued(hosts: &[Host]) -> Result<()> {
    for host in hosts {
        let shown = shown(host)?;
        ensure!(
            shown["in_force"] == true && shown["issues"] == false,
            "{shown}"
        );
    }
    Ok(())
}
