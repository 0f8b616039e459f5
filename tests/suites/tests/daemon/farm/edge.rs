//! An edge that is a member of its hosts' farm: it challenges for as long as a host takes the answers.

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::{Value, json};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    process::ensure_says,
    prometheus::get,
};

use super::{
    host::{PATIENCE, eventually},
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

    // They no longer agree: none, which both take.
    let netns = &split.farm.hosts[HOSTS[1]].netns;
    netns.set_sysctl("net.ipv4.tcp_rmem", "4096 131072 67108864")?;
    split.until_verdict("no scale is stated", |verdict| {
        verdict["takes"] == json!(["web-2", "web-3"]) && verdict["window_scale"].is_null()
    })?;
    stated(&Value::Null)?;
    ensure!(split.mode()? == "on");
    ensure_says(
        &split.farm.control(&["status"])?,
        &["answers are taken by web-2, web-3; it states no window scale"],
    )?;
    split.until_logged("its hosts have the window scales 10, 11, so its challenges state none")?;
    split.serving(|| {
        for host in HOSTS {
            split.route_to(host)?;
            ensure!(split.challenged(COUNT)? == i64::try_from(COUNT)?);
            let (connection, _) = split.ask()?;
            ensure!(connection.terms()?.scales.is_none());
        }
        Ok(())
    })?;
    netns.set_sysctl("net.ipv4.tcp_rmem", wide)?;
    stated(&json!(10)).map(drop)
}

/// The window of the next SYN-ACK of the service at its clients, in bytes.
fn window(split: &Split) -> Result<u16> {
    let link = LinkSocket::open(&split.farm.clients, "h1", Frames::All)?;
    split.ask()?;
    while let Some(came) = link.receive(PATIENCE)? {
        let parsed = etherparse::SlicedPacket::from_ethernet(&came)?;
        if let Some(etherparse::TransportSlice::Tcp(tcp)) = &parsed.transport
            && tcp.syn()
            && tcp.ack()
        {
            return Ok(tcp.window_size());
        }
    }
    anyhow::bail!("no SYN-ACK")
}

/// An edge promises what the least of its hosts keeps: its MTU, its receive buffer, its options.
#[test]
fn an_edge_states_the_least_of_its_hosts() -> Result<()> {
    let split = begun()?;
    let netns = &split.farm.hosts[HOSTS[1]].netns;
    let shows = |what: &str, value: &Value| {
        eventually(&format!("{what} is {value}"), || {
            let shown = split.edge_host().tfo.json(&["guard", "show"])?;
            Ok(shown["edges"][0].pointer(what) == Some(value))
        })
    };
    shows("/mss", &json!(1460))?;
    shows("/receive_buffer", &Value::Null)?;
    split.serving(|| {
        let terms = || split.ask()?.0.terms();
        let before = (terms()?, window(&split)?);
        ensure!(before.0.segment_size == 1448 && before.0.sack, "{before:?}");

        netns.configure(&["link set back mtu 1280"])?;
        netns.set_sysctl("net.ipv4.tcp_rmem", "4096 16384 6291456")?;
        netns.set_sysctl("net.ipv4.tcp_sack", "0")?;
        shows("/mss", &json!(1240))?;
        shows("/receive_buffer", &json!(16_384))?;
        shows("/options/sack", &json!(false))?;
        let status = split.until_verdict("both take it", |verdict| {
            verdict["takes"] == json!(["web-2", "web-3"])
        })?;
        let record = &status["hosts"][HOSTS[1]]["guard"];
        ensure!(
            (&record["mtu"], &record["receive_buffer"]) == (&json!(1280), &json!(16_384)),
            "{record}"
        );
        ensure_says(
            &split.edge_host().tfo.done(&["guard", "show"])?,
            &["MSS at most 1240, window scale 7, receive buffer 16384, no SACK"],
        )?;
        for host in HOSTS {
            split.route_to(host)?;
            let least = terms()?;
            ensure!(least.segment_size == 1228 && !least.sack, "{least:?}");
            // Half of the buffer, in whole segments.
            let window = window(&split)?;
            ensure!(window == 8192 - 8192 % 1228, "{window}");
            ensure!(split.challenged(COUNT)? == i64::try_from(COUNT)?);
        }

        // A route of the host counts, too, and no host that takes nothing.
        netns.configure(&["route add 10.88.77.0/24 via 10.88.3.254 advmss 1000"])?;
        split.configure(HOSTS[1], CLEARED)?;
        shows("/mss", &json!(1460))?;
        split.configure(HOSTS[1], &split.host(0))?;
        shows("/mss", &json!(1000))?;
        split.configure(HOSTS[1], CLEARED)?;
        shows("/mss", &json!(1460))?;
        shows("/receive_buffer", &Value::Null)?;
        split.route_to(HOSTS[0])?;
        let after = (terms()?, window(&split)?);
        ensure!(after == before, "{after:?}, not {before:?}");
        Ok(())
    })
}

/// A rule that is set by hand lasts until the next reload, as elsewhere; where no host takes the answers it is refused, and told.
#[test]
fn what_is_set_by_hand_is_judged() -> Result<()> {
    let split = begun()?;
    let tfo = &split.edge_host().tfo;
    let set = |port: &'static str, more: &[&str]| {
        let set = ["guard", "set", "on", "--port", port, "--vip", "10.88.0.1"];
        tfo.run(&[&set[..], more].concat())
    };
    let reload = || split.edge_host().signal(Signal::HUP);
    tfo.done(&[
        "guard",
        "set",
        "off",
        "--port",
        "8080",
        "--vip",
        "10.88.0.1",
    ])?;
    ensure!(split.mode()? == "off");
    reload()?;
    split.until_mode("on")?;

    // A port at which no host has a rule: known once there is a rule for it here.
    ensure!(set("8081", &[])?.status.success());
    let told = "10.88.0.1:8081: no host takes the answers to its challenges, and its rule, set by hand, stays: web-2 has no rule";
    split.until_logged(told)?;
    let line = "\ntfo_guard_edge_hosts{vip=\"10.88.0.1/32\",port=\"8081\",verdict=\"no_rule\"} 2\n";
    let netns = &split.edge_host().netns;
    eventually(line, || Ok(get(netns, "/metrics")?.body.contains(line)))?;
    let found = "10.88.0.1:8081: no host takes the answers to challenges, and each client is reset: web-2 has no rule";
    let doctor_says =
        |found: &str| eventually(found, || Ok(tfo.run(&["doctor"])?.stdout.contains(found)));
    doctor_says(found)?;
    let parts = [
        "10.88.0.1:8081: no host of the farm takes the answers",
        "web-3 has no rule",
        "`tfo guard set off --port 8081 --secret-file FILE`",
        "--force",
    ];
    set("8081", &[])?.ensure_refused(&parts)?;
    ensure!(set("8081", &["--force"])?.status.success());
    reload()?;
    eventually("the configured rule alone is left", || {
        Ok(tfo.json(&["guard", "show"])?["edges"]
            .as_array()
            .map(Vec::len)
            == Some(1))
    })?;

    for host in HOSTS {
        split.configure(host, &split.host(1))?;
    }
    split.until_mode("off")?;
    let found = "10.88.0.1:8080: no host takes the answers to challenges, so every SYN passes: web-2 has another secret; web-3";
    doctor_says(found)?;
    let parts = ["web-2 has another secret; web-3 has another secret"];
    set("8080", &[])?.ensure_refused(&parts)?;
    ensure!(split.mode()? == "off");
    ensure!(set("8080", &["--force"])?.status.success());
    ensure!(split.mode()? == "on");
    reload()?;
    split.until_mode("off").map(drop)
}

/// `tfo doctor` of a host whose clock is another one's.
#[test]
fn a_clock_that_is_off_is_told_on_the_host() -> Result<()> {
    let mut split = Split::new()?;
    split.farm.hosts[HOSTS[1]].offset_is(40);
    split.farm.begin()?;
    let doctor =
        |host: usize| Ok::<_, anyhow::Error>(split.farm.hosts[host].tfo.run(&["doctor"])?.stdout);
    eventually("the clock of the host is told", || {
        Ok(doctor(HOSTS[1])?.contains("guard and clock"))
    })?;
    ensure_says(&doctor(HOSTS[1])?, &["s off from the farm's", "NTP"])?;
    ensure!(!doctor(HOSTS[0])?.contains("guard and clock"));
    Ok(())
}
