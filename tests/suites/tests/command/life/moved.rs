//! Interfaces that are moved to another network namespace with the program on them: the links survive it.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    kernel,
    netns::Netns,
    process::ensure_says,
    testbed::{Tally, Testbed},
    tfo::Tfo,
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};
use tfo_userspace::kernel::bpf::tcx_programs;

use super::{cookie, is_pinned, wait_for};

const DETACH: [&[&str]; 2] = [&["detach", SERVER_INTERFACE], &["detach", "--all"]];

/// The modes whose programs survive a move. A clsact filter, as before Linux 6.6, does not.
fn modes() -> Result<Vec<&'static str>> {
    Ok(if kernel::is_before(6, 6)? {
        vec!["native", "generic"]
    } else {
        vec!["native", "generic", "tc"]
    })
}

fn index(netns: &Netns, interface: &str) -> Result<u32> {
    let text = netns.ip(&["-json", "link", "show", interface])?;
    let links: Value = serde_json::from_str(&text)?;
    let index = links[0]["ifindex"].as_u64().context("no ifindex")?;
    Ok(u32::try_from(index)?)
}

/// The number of XDP and TCX programs on `interface`.
fn programs(netns: &Netns, interface: &str) -> Result<usize> {
    let xdp = xdp::xdp_attached(netns, interface)?;
    let index = index(netns, interface)?;
    let tcx = netns.run(|| tcx_programs(index)).unwrap_or_default();
    Ok(usize::from(xdp.is_some()) + tcx.len())
}

fn move_to(from: &Netns, to: &Netns) -> Result<()> {
    from.configure(&[format!("link set {SERVER_INTERFACE} netns {}", to.name())])
}

/// An interface that was attached in the testbed's server and moved to another namespace.
fn moved(mode: &str) -> Result<(Testbed, Netns)> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", mode])?;
    let there = Netns::new("there")?;
    move_to(&testbed.pair.server, &there)?;
    Ok((testbed, there))
}

fn finding(tfo: &Tfo, check: &str) -> Result<Value> {
    let output = tfo.run(&["doctor", "--json"])?;
    let found: Value = serde_json::from_str(&output.stdout)?;
    let findings = found["findings"].as_array().context("no findings")?;
    let finding = findings.iter().find(|each| each["check"] == check);
    finding
        .cloned()
        .with_context(|| format!("no {check} in {found:#}"))
}

#[test]
fn status_and_doctor_tell_of_it_in_both_namespaces() -> Result<()> {
    for mode in modes()? {
        let (testbed, there) = moved(mode)?;
        let status = testbed.tfo.json(&["status"])?;
        let interface = &status["interfaces"][0];
        ensure!(
            interface["moved"] == true
                && interface["mode"].is_null()
                && interface["name"].is_null(),
            "{mode}: {status}"
        );
        let says = "moved to another namespace, still running";
        ensure_says(&testbed.tfo.done(&["status"])?, &[says])?;
        let away = finding(&testbed.tfo, "moved away")?;
        ensure!(away["verdict"] == "problem", "{away}");
        ensure_says(&away["found"].to_string(), &[says])?;

        let tfo = Tfo::new(&there);
        let status = tfo.json(&["status"])?;
        let [stray] = status["from_other_namespaces"]
            .as_array()
            .context("none")?
            .as_slice()
        else {
            anyhow::bail!("{mode}: {status}");
        };
        ensure!(
            stray["name"] == SERVER_INTERFACE
                && stray["mode"] == mode
                && stray["program_id"] == interface["program_id"],
            "{mode}: {status}"
        );
        let text = tfo.done(&["status"])?;
        ensure_says(&text, &["another network namespace", "tfo detach server0"])?;
        let here = finding(&tfo, "moved here")?;
        ensure!(
            here["verdict"] == "problem" && here["interface"] == SERVER_INTERFACE,
            "{here}"
        );
    }
    Ok(())
}

#[test]
fn attach_knows_its_own_program_and_replaces_it_when_told() -> Result<()> {
    for mode in modes()? {
        let (testbed, there) = moved(mode)?;
        let tfo = Tfo::new(&there);
        for choice in [mode, "auto"] {
            let refused = tfo.run(&["attach", SERVER_INTERFACE, "--mode", choice])?;
            refused.ensure_refused(&[
                SERVER_INTERFACE,
                "another network namespace",
                "--replace",
            ])?;
        }
        ensure!(programs(&there, SERVER_INTERFACE)? == 1);
        let replace = ["attach", "--replace", SERVER_INTERFACE, "--mode", mode];
        let said = tfo.done(&replace)?;
        ensure_says(&said, &["removed program", "attached in"])?;
        ensure!(programs(&there, SERVER_INTERFACE)? == 1);
        let status = tfo.json(&["status"])?;
        ensure!(
            status["interfaces"][0]["mode"] == mode
                && status["from_other_namespaces"] == Value::Array(vec![]),
            "{mode}: {status}"
        );
        ensure!(!is_pinned(cookie(&testbed.pair.server)?));
        tfo.done(&["detach", SERVER_INTERFACE])?;
        ensure!(programs(&there, SERVER_INTERFACE)? == 0);
    }
    Ok(())
}

#[test]
fn detach_removes_it_from_either_namespace() -> Result<()> {
    for mode in modes()? {
        for detach in DETACH {
            let (testbed, there) = moved(mode)?;
            let tfo = Tfo::new(&there);
            tfo.done(detach)?;
            ensure!(
                programs(&there, SERVER_INTERFACE)? == 0,
                "{mode}: {detach:?}"
            );
            ensure!(!is_pinned(cookie(&testbed.pair.server)?));
            ensure_says(&testbed.tfo.done(&["status"])?, &["not attached"])?;
        }
        let (testbed, there) = moved(mode)?;
        testbed.tfo.done(&["detach", "--all"])?;
        ensure!(programs(&there, SERVER_INTERFACE)? == 0, "{mode}");
        ensure!(!is_pinned(cookie(&testbed.pair.server)?));
    }
    Ok(())
}

/// The guard's program has a link of its own.
#[test]
fn the_guards_link_goes_with_the_other() -> Result<()> {
    if kernel::is_before(6, 9)? {
        return Ok(());
    }
    for detach in DETACH {
        let testbed = Testbed::attach(Pair::new()?, &["--mode", "generic"])?;
        testbed
            .tfo
            .done(&["guard", "set", "on", "--port", "8080"])?;
        let there = Netns::new("there")?;
        move_to(&testbed.pair.server, &there)?;
        ensure!(programs(&there, SERVER_INTERFACE)? == 2);
        Tfo::new(&there).done(detach)?;
        ensure!(programs(&there, SERVER_INTERFACE)? == 0, "{detach:?}");
    }
    Ok(())
}

/// Each namespace numbers its interfaces by itself.
#[test]
fn an_equal_index_in_another_namespace_is_not_mistaken_for_it() -> Result<()> {
    for mode in modes()? {
        let testbed = Testbed::attach(Pair::new()?, &["--mode", mode])?;
        let server = &testbed.pair.server;
        let number = index(server, SERVER_INTERFACE)?;
        let there = Netns::new("there")?;
        let tfo = Tfo::new(&there);
        move_to(server, &there)?;
        let taken = |name: &str| {
            [
                format!("link add {name} index {number} type veth peer name {name}-peer"),
                format!("link set {name} up"),
            ]
        };
        // A new interface here has the index of the one that left.
        server.configure(&taken("nic0"))?;
        let status = testbed.tfo.json(&["status"])?;
        ensure!(
            status["interfaces"][0]["moved"] == true && status["interfaces"][0]["name"].is_null(),
            "{mode}: {status}"
        );
        testbed.tfo.done(&["attach", "nic0", "--mode", mode])?;
        ensure!(programs(server, "nic0")? == 1);
        ensure!(programs(&there, SERVER_INTERFACE)? == 0, "{mode}");

        // One there has it, so that the interface gets another when it moves.
        testbed.tfo.done(&["detach", "--all"])?;
        move_to(&there, server)?;
        testbed
            .tfo
            .done(&["attach", SERVER_INTERFACE, "--mode", mode])?;
        let number = index(server, SERVER_INTERFACE)?;
        there.configure(&[format!(
            "link add nic1 index {number} type veth peer name nic1-peer"
        )])?;
        move_to(server, &there)?;
        ensure!(index(&there, SERVER_INTERFACE)? != number);
        let status = tfo.json(&["status"])?;
        let strays = status["from_other_namespaces"].as_array().context("none")?;
        ensure!(
            strays.len() == 1 && strays[0]["name"] == SERVER_INTERFACE,
            "{mode}: {status}"
        );
        // And takes it back.
        move_to(&there, server)?;
        testbed
            .tfo
            .done(&["attach", SERVER_INTERFACE, "--mode", mode])?;
        ensure!(programs(server, SERVER_INTERFACE)? == 1);
        let status = testbed.tfo.json(&["status"])?;
        let interfaces = status["interfaces"].as_array().context("none")?;
        ensure!(
            interfaces.len() == 1 && interfaces[0]["mode"] == mode,
            "{mode}: {status}"
        );
    }
    Ok(())
}

#[test]
fn an_interface_that_comes_back_is_attached_as_it_was() -> Result<()> {
    for mode in modes()? {
        let (testbed, there) = moved(mode)?;
        let server = &testbed.pair.server;
        move_to(&there, server)?;
        let status = testbed.tfo.json(&["status"])?;
        ensure!(
            status["interfaces"][0]["mode"] == mode && status["interfaces"][0]["moved"] == false,
            "{mode}: {status}"
        );
        let refused = testbed.tfo.run(&["attach", SERVER_INTERFACE])?;
        refused.ensure_refused(&["attached already"])?;
        testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
        ensure!(programs(server, SERVER_INTERFACE)? == 0);
    }
    Ok(())
}

#[test]
fn it_is_removed_where_its_namespace_is_gone() -> Result<()> {
    for mode in modes()? {
        for detach in DETACH {
            let there = Netns::new("there")?;
            let gone = {
                let gone = Netns::new("gone")?;
                gone.configure(&[format!(
                    "link add {SERVER_INTERFACE} type veth peer name nic1 netns {}",
                    there.name()
                )])?;
                let tfo = Tfo::new(&gone);
                tfo.done(&["attach", SERVER_INTERFACE, "--mode", mode])?;
                move_to(&gone, &there)?;
                // Its drop would detach.
                std::mem::forget(tfo);
                cookie(&gone)?
            };
            ensure!(is_pinned(gone) && programs(&there, SERVER_INTERFACE)? == 1);
            // Detaching in a third namespace is no reason to remove what may have an owner.
            let third = Netns::new("third")?;
            Tfo::new(&third).done(&["detach", "--all"])?;
            ensure!(is_pinned(gone));
            Tfo::new(&there).done(detach)?;
            ensure!(
                programs(&there, SERVER_INTERFACE)? == 0,
                "{mode}: {detach:?}"
            );
            wait_for("the pins to go", || Ok((!is_pinned(gone)).then_some(())))?;
        }
    }
    Ok(())
}

#[test]
fn what_stays_has_no_drift() -> Result<()> {
    for from_here in [false, true] {
        let testbed = Testbed::new()?;
        let listener = testbed.listen(Family::V4)?;
        testbed.request_cookie(&listener, Family::V4)?;
        testbed.tfo.done(&["attach", "lo"])?;
        testbed.expect(Tally {
            requests: 1,
            ..Tally::default()
        })?;
        let there = Netns::new("there")?;
        move_to(&testbed.pair.server, &there)?;
        if from_here {
            testbed.tfo.done(&["attach", "--replace", "lo"])?;
        } else {
            Tfo::new(&there).done(&["detach", SERVER_INTERFACE])?;
        }
        ensure!(programs(&there, SERVER_INTERFACE)? == 0);
        let stats = testbed.tfo.stats()?;
        ensure!(stats.drift.values().all(|drift| *drift == 0), "{stats:?}");
    }
    Ok(())
}
