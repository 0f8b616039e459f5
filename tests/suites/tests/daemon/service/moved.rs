//! Interfaces that are moved to another network namespace under a running service.

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys::KeyFile,
    netns::Netns,
    testbed::Testbed,
    tfo::Tfo,
    veth::{Pair, SERVER_INTERFACE},
    xdp,
};
use tfo_userspace::kernel::bpf::tcx_programs;

use super::running::{Running, eventually};

/// The number of XDP and TCX programs on the server's interface, which is in `netns`.
fn programs(netns: &Netns) -> Result<usize> {
    let text = netns.ip(&["-json", "link", "show", SERVER_INTERFACE])?;
    let links: serde_json::Value = serde_json::from_str(&text)?;
    let index = u32::try_from(links[0]["ifindex"].as_u64().context("no ifindex")?)?;
    let tcx = netns.run(|| tcx_programs(index)).unwrap_or_default();
    Ok(usize::from(xdp::xdp_attached(netns, SERVER_INTERFACE)?.is_some()) + tcx.len())
}

fn move_to(from: &Netns, to: &Netns) -> Result<()> {
    from.configure(&[format!("link set {SERVER_INTERFACE} netns {}", to.name())])
}

#[test]
fn what_leaves_the_namespace_is_detached_and_attached_when_it_comes_back() -> Result<()> {
    for mode in ["native", "generic", "tc"] {
        let testbed = Testbed::idle(Pair::new()?)?;
        let server = &testbed.pair.server;
        let there = Netns::new("there")?;
        let arguments = ["-i", SERVER_INTERFACE, "-i", "lo", "--mode", mode];
        // No native mode on `lo`.
        let alone = ["-i", SERVER_INTERFACE, "--mode", mode];
        let arguments = if mode == "native" {
            &alone[..]
        } else {
            &arguments[..]
        };
        let mut running = Running::start(Some(server), arguments)?;
        for _ in 0..2 {
            ensure!(programs(server)? == 1, "{mode}");
            move_to(server, &there)?;
            eventually("detached there", || Ok(programs(&there)? == 0))?;
            let status = testbed.tfo.json(&["status"])?;
            let interfaces = status["interfaces"].as_array().context("no interfaces")?;
            ensure!(
                interfaces.iter().all(|it| it["moved"] == false),
                "{mode}: {status}"
            );
            move_to(&there, server)?;
            eventually("attached again", || Ok(programs(server)? == 1))?;
        }
        running.wait_for_log("server0: moved to another network namespace, and detached there")?;
        let log = running.end()?.stderr;
        ensure!(!log.contains("ERROR"), "{log}");
    }
    Ok(())
}

/// The guard's link goes, too; and so does what someone attached by hand.
#[test]
fn guard_and_interfaces_that_are_not_configured_are_no_exception() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", "generic"])?;
    let server = &testbed.pair.server;
    let there = Netns::new("there")?;
    let file = KeyFile::new("interfaces = ['lo']\nmode = 'generic'\n")?;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    testbed
        .tfo
        .done(&["guard", "set", "on", "--port", "8080"])?;
    ensure!(programs(server)? == 2);
    move_to(server, &there)?;
    eventually("detached there", || Ok(programs(&there)? == 0))?;
    running.wait_for_log("moved to another network namespace, and detached there")?;
    let status = testbed.tfo.json(&["status"])?;
    ensure!(
        status["interfaces"].as_array().map(Vec::len) == Some(1)
            && status["interfaces"][0]["name"] == "lo",
        "{status}"
    );
    running.end().map(drop)
}

#[test]
fn a_service_takes_over_an_interface_that_was_attached_elsewhere() -> Result<()> {
    for controlled in [false, true] {
        let testbed = Testbed::new()?;
        let server = &testbed.pair.server;
        let there = Netns::new("there")?;
        let tfo = Tfo::new(&there);
        let first = if controlled {
            Some(Running::start(Some(server), &["-i", SERVER_INTERFACE])?)
        } else {
            None
        };
        let mut running = Running::start(Some(&there), &["-i", SERVER_INTERFACE, "-i", "lo"])?;
        move_to(server, &there)?;
        running.wait_for_log("server0: attached in")?;
        let status = tfo.json(&["status"])?;
        ensure!(
            status["interfaces"].as_array().map(Vec::len) == Some(2)
                && status["from_other_namespaces"] == serde_json::json!([]),
            "{status}"
        );
        ensure!(programs(&there)? == 1);
        if let Some(first) = first {
            first.end()?;
        } else {
            ensure!(
                running.log().contains("removed program"),
                "{}",
                running.log()
            );
        }
        running.end()?;
        // It is its own now: the other namespace has no say in it.
        testbed.tfo.done(&["detach", "--all"])?;
        ensure!(programs(&there)? == 1);
        tfo.done(&["detach", "--all"])?;
    }
    Ok(())
}
