//! An edge that is a member of its hosts' farm: it challenges for as long as a host takes the answers.

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{process::ensure_says, prometheus::get};

use super::{
    host::eventually,
    split::{EDGE, HOSTS, Split, service},
};

const COUNT: usize = 20;
/// A guard without a rule.
const CLEARED: &str = "";

fn is_taken(taken: bool) -> impl Fn(&Value) -> bool {
    move |verdict| verdict["taken"] == taken
}

fn begun() -> Result<Split> {
    let mut split = Split::new()?;
    split.farm.begin()?;
    split.until_verdict("both hosts take the answers", |verdict| {
        verdict["takes"] == json!(["web-2", "web-3"])
    })?;
    split.until_mode("on")?;
    Ok(split)
}

/// The metric of the service on the edge.
fn metric(split: &Split, value: &str) -> Result<()> {
    let line = format!("\ntfo_guard_edge_taken{{vip=\"10.88.0.1/32\",port=\"8080\"}} {value}\n");
    let netns = &split.edge_host().netns;
    eventually(&line, || Ok(get(netns, "/metrics")?.body.contains(&line))).map(drop)
}

#[test]
fn an_edge_challenges_for_as_long_as_a_host_takes_the_answers() -> Result<()> {
    let split = begun()?;
    let [first, second] = HOSTS;
    split.serving(|| {
        ensure!(split.challenged(COUNT)? == i64::try_from(COUNT)?);
        metric(&split, "1")?;
        // One of two hosts, to which no route leads.
        split.configure(second, CLEARED)?;
        let status = split.until_verdict("one host takes no answers", |verdict| {
            verdict["refuses"] == json!({"web-3": "no_rule"})
        })?;
        ensure!(is_taken(true)(Split::verdict(&status)), "{status:#}");
        let guard = &status["hosts"][second]["guard"];
        let addresses = guard["addresses"].as_array().context("no addresses")?;
        ensure!(guard["takes"] == json!([]), "{guard}");
        ensure!(addresses.contains(&json!("10.88.0.1/32")), "{guard}");
        let said = split.farm.control(&["status"])?;
        let refuses =
            "answers are taken by web-2; web-3 has no rule for the port with a shared secret";
        ensure_says(&said, &[&service(), "edge of", refuses])?;
        ensure!(split.challenged(COUNT)? == i64::try_from(COUNT)?);

        let partly = "10.88.0.1:8080: not all hosts take the answers to its challenges (window scale 7): web-3 has no rule";
        split.until_logged(partly)?;

        let connections = split.connecting(|| {
            split.configure(first, CLEARED)?;
            let off = split.until_mode("off")?;
            println!("off {off:?} after the configuration of the last host was changed");
            split.until_verdict("no host takes answers", is_taken(false))?;
            metric(&split, "0")?;
            ensure!(split.challenged(COUNT)? == 0);
            let unwell = split.farm.control(&["status"]).err().context("exit status")?;
            ensure_says(&format!("{unwell:#}"), &["no host takes answers: web-2"])?;
            let host = &split.farm.hosts[first].tfo;
            eventually("the guard of the last host is cleared", || {
                Ok(host.json(&["guard", "show"])?["in_force"] == false)
            })?;

            split.configure(first, &split.host(0))?;
            let on = split.until_mode("on")?;
            println!("on {on:?} after it was changed again");
            metric(&split, "1")
        })?;
        println!("{connections} connections, none failed");
        ensure!(split.challenged(COUNT)? == i64::try_from(COUNT)?);
        for line in [
            "10.88.0.1:8080: no host takes the answers to its challenges, so it is not guarded: web-2 has no rule",
            "tfo guard set off --port 8080 --secret-file FILE",
            "10.88.0.1:8080: guarded as configured again",
        ] {
            split.until_logged(line)?;
        }
        Ok(())
    })
}

#[test]
fn what_was_judged_stays_without_etcd() -> Result<()> {
    let mut split = begun()?;
    // Another secret at both hosts.
    for host in HOSTS {
        split.configure(host, &split.host(1))?;
    }
    split.until_verdict("the hosts have another secret", |verdict| {
        verdict["refuses"] == json!({"web-2": "other_secret", "web-3": "other_secret"})
    })?;
    split.until_mode("off")?;
    split.farm.etcd.kill()?;
    let told = "without etcd for";
    eventually(told, || {
        Ok(split.edge_host().tfo.done(&["status"])?.contains(told))
    })?;
    split.configure(HOSTS[0], &split.host(0))?;
    eventually("the host takes answers again", || {
        let shown = split.farm.hosts[HOSTS[0]].tfo.json(&["guard", "show"])?;
        let edge = split.edge_host().tfo.json(&["guard", "show"])?;
        Ok(shown["secret"] == edge["secret"])
    })?;
    // A reload of the edge puts nothing else in force.
    split.configure(EDGE, &(split.edge() + "mss = 1400\n"))?;
    eventually("the configuration was reloaded", || {
        let shown = split.edge_host().tfo.json(&["guard", "show"])?;
        Ok(shown["edges"][0]["mss"] == 1400)
    })?;
    ensure!(split.mode()? == "off");
    metric(&split, "0")?;

    split.farm.etcd.restart()?;
    let on = split.until_mode("on")?;
    println!("on {on:?} after etcd was back");
    // A host whose controller is gone counts as it was last known.
    split.farm.hosts[HOSTS[0]].kill()?;
    split
        .farm
        .until("the lease of the host is over", |status| {
            (status["hosts"][HOSTS[0]]["alive"] == false).then_some(())
        })?;
    ensure!(split.mode()? == "on");
    split.serving(|| {
        ensure!(split.challenged(COUNT)? == i64::try_from(COUNT)?);
        Ok(())
    })?;
    // Once the farm has no such host any more, the others decide.
    split.farm.control(&["forget", "web-2"])?;
    split.until_mode("off").map(drop)
}

/// An edge whose rule sets no window scale states the scale of its hosts, if they agree.
#[test]
fn an_edge_states_the_scale_of_its_hosts() -> Result<()> {
    let mut split = Split::new()?;
    let wide = "4096 131072 33554432";
    for host in HOSTS {
        split.farm.hosts[host]
            .netns
            .set_sysctl("net.ipv4.tcp_rmem", wide)?;
    }
    split.farm.hosts[HOSTS[1]].offset_is(40);
    split.farm.begin()?;
    let stated = |scale: &Value| {
        eventually(&format!("window scale {scale} is in the rule"), || {
            let shown = split.edge_host().tfo.json(&["guard", "show"])?;
            Ok(shown["edges"][0]["window_scale"] == *scale)
        })
    };
    stated(&json!(10))?;
    let status = split.until_verdict("both take it", |verdict| {
        verdict["takes"] == json!(["web-2", "web-3"]) && verdict["window_scale"] == 10
    })?;
    ensure!(
        status["hosts"][HOSTS[0]]["guard"]["window_scale"] == 10,
        "{status:#}"
    );
    split.serving(|| {
        ensure!(split.challenged(COUNT)? == i64::try_from(COUNT)?);
        let scales = split.ask()?.0.terms()?.scales;
        ensure!(scales.is_some_and(|scales| scales.0 == 10), "{scales:?}");
        Ok(())
    })?;
    // A host whose clock is off is marked.
    let status = split.farm.until("the clock of a host is off", |status| {
        (status["hosts"][HOSTS[1]]["clock_off"] == true).then_some(())
    })?;
    ensure!(
        status["hosts"][HOSTS[0]]["clock_off"] == false,
        "{status:#}"
    );
    ensure_says(
        &split.farm.control(&["status"])?,
        &["its clock is too far off to take answers"],
    )?;

    // They no longer agree: the edge's own, which neither has.
    let netns = &split.farm.hosts[HOSTS[1]].netns;
    netns.set_sysctl("net.ipv4.tcp_rmem", "4096 131072 67108864")?;
    split.until_mode("off")?;
    split.until_verdict("their scales are named", |verdict| {
        verdict["refuses"] == json!({"web-2": {"window_scale": 10}, "web-3": {"window_scale": 11}})
    })?;
    stated(&Value::Null)?;
    netns.set_sysctl("net.ipv4.tcp_rmem", wide)?;
    split.until_mode("on")?;
    stated(&json!(10)).map(drop)
}
