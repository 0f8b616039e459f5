//! The hook follows the job: where the data path runs, and how it moves from XDP to traffic control and back.

use std::{env, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tfo_testbed::{
    netns::Netns,
    returning::while_clients_return,
    seed::rng_with,
    socket::Method,
    testbed::{REQUEST, Tally, Testbed},
    tfo::{LIMIT, Tfo},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp::{self, Mode},
};

use crate::guard::Stranger;

/// The mode, and why.
fn place(tfo: &Tfo) -> Result<(String, String)> {
    let status = tfo.json(&["status"])?;
    let interface = &status["interfaces"][0];
    let text = |name: &str| interface[name].as_str().unwrap_or_default().to_owned();
    Ok((text("mode"), text("mode_reason")))
}

fn move_to(tfo: &Tfo, mode: &str) -> Result<String> {
    tfo.done(&["attach", "--replace", SERVER_INTERFACE, "--mode", mode])
}

#[test]
fn what_only_counts_runs_in_traffic_control() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let said = testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    ensure!(said.contains("attached in tc mode"), "{said}");
    ensure!(xdp::xdp_attached(&testbed.pair.server, SERVER_INTERFACE)?.is_none());
    let (mode, reason) = place(&testbed.tfo)?;
    ensure!(mode == "tc" && reason.contains("costs least"), "{reason}");
    Ok(())
}

/// veth loses three quarters of a TCP stream to native XDP, so the guard stays where it is, and needs no program on the peer.
#[test]
fn a_guard_on_veth_stays_in_traffic_control() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.tfo.done(&["guard", "set", "on"])?;
    let (mode, reason) = place(&testbed.tfo)?;
    ensure!(mode == "tc" && reason.contains("veth"), "{reason}");
    let exchange = testbed.exchange(&listener, Family::V4, Method::Plain)?;
    ensure!(!exchange.in_syn);
    let stats = testbed.tfo.stats()?;
    ensure!(stats.counters["GuardAccepted"] == 1, "{stats:?}");
    Ok(())
}

/// A TAP device loses nothing to native XDP.
#[test]
fn a_guard_and_a_dropping_policy_move_to_native_xdp() -> Result<()> {
    const TAP: &str = "tap0";
    let netns = Netns::new("tap")?;
    netns.configure(&[
        format!("tuntap add {TAP} mode tap"),
        format!("link set {TAP} up"),
    ])?;
    let tfo = Tfo::new(&netns);
    tfo.done(&["attach", TAP])?;
    let expect = |expected: &str| -> Result<()> {
        let (mode, reason) = place(&tfo)?;
        ensure!(mode == expected, "{mode}: {reason}");
        ensure!(!reason.is_empty());
        Ok(())
    };
    expect("tc")?;
    // What does not drop or answer stays.
    for (set, mode) in [
        (["guard", "set", "off"].as_slice(), "tc"),
        (&["guard", "set", "on"], "native"),
        (&["guard", "clear"], "tc"),
        (&["policy", "set", "--bad", "reissue"], "tc"),
        (&["policy", "set", "--bad", "drop"], "native"),
        (&["policy", "set", "--bad", "drop", "--dry-run"], "tc"),
        (&["policy", "set", "--dry-run=false"], "native"),
        (&["guard", "set", "auto"], "native"),
        (&["policy", "clear"], "native"),
        (&["guard", "clear"], "tc"),
    ] {
        let place_before = place(&tfo)?.0;
        let said = tfo.run(set)?;
        ensure!(said.status.success(), "{set:?}: {said:?}");
        expect(mode).with_context(|| format!("after {set:?}"))?;
        let moved = place_before != mode;
        ensure!(
            said.stderr.contains("moved from") == moved,
            "{set:?}: {said:?}"
        );
    }
    // A mode that was asked for stays.
    tfo.done(&["attach", "--replace", TAP, "--mode", "generic"])?;
    tfo.done(&["guard", "set", "on"])?;
    ensure!(place(&tfo)?.0 == "generic");
    tfo.done(&["attach", "--replace", TAP])?;
    ensure!(place(&tfo)?.0 == "generic");
    tfo.done(&["attach", "--replace", TAP, "--mode", "auto"])?;
    expect("native")?;
    tfo.done(&["detach", "--all"])?;
    xdp::ensure_pinned(&netns, false)
}

/// `TFO_MOVES` sets the number of moves.
#[test]
fn moves_under_load_lose_no_packet_and_no_connection() -> Result<()> {
    let moves = match env::var("TFO_MOVES") {
        Ok(text) => text.parse().context("TFO_MOVES")?,
        Err(_) => 24,
    };
    let testbed = Testbed::new()?;
    let visits = while_clients_return(&testbed, |wait| {
        // Each from each other.
        let way = ["generic", "tc", "native", "generic", "native", "tc"];
        for mode in way.iter().cycle().take(moves) {
            let said = move_to(&testbed.tfo, mode)?;
            ensure!(said.contains("moved from"), "{said}");
            wait()?;
        }
        Ok(())
    })?;
    println!("{moves} moves, {visits:?}");
    testbed.equal()?;
    Ok(())
}

/// The guard answers all the while: none of its challenges is lost with a move.
#[test]
fn the_guard_moves_along() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed
        .tfo
        .done(&["guard", "set", "on", "--replies", "1000000/s"])?;
    let before = testbed.tfo.stats()?.counters["GuardAccepted"];
    for (number, mode) in (0..).zip(["generic", "tc", "native", "tc"]) {
        // The challenge comes from one hook, and its answer meets the other.
        let mut stranger = Stranger::new(&testbed.pair, Family::V4, number, listener.port())?;
        let challenge = stranger.knock()?;
        move_to(&testbed.tfo, mode)?;
        stranger.prove(&challenge, REQUEST)?;
        ensure!(listener.accept()?.receive()? == REQUEST, "{mode}");
        let opened = testbed.tfo.stats()?.counters["GuardAccepted"] - before;
        ensure!(opened == i64::from(number) + 1, "{mode}: {opened}");
        // Native XDP on veth cannot answer: the peer has no program.
        if mode == "native" {
            move_to(&testbed.tfo, "generic")?;
        }
    }
    Ok(())
}

#[test]
fn a_move_that_is_killed_counts_right_and_is_tidied_up() -> Result<()> {
    const KILLS: u32 = 20;
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let mut random = rng_with(19)?;
    for kill in 0..KILLS {
        let mode = if kill % 2 == 0 { "generic" } else { "tc" };
        let move_to = ["attach", "--replace", SERVER_INTERFACE, "--mode", mode];
        let running = testbed.tfo.start(&move_to)?;
        // A move takes 0.5 s and more.
        thread::sleep(Duration::from_millis(700).mul_f64(random.f64()));
        running.signal(Signal::KILL)?;
        running.wait(LIMIT)?;
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        testbed.equal()?;
    }
    for mode in Mode::ALL {
        move_to(&testbed.tfo, &mode.to_string())?;
        ensure!(place(&testbed.tfo)?.0 == mode.to_string());
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    }
    let passive = Tally {
        requests: 1,
        passive: i64::from(KILLS) + 3,
        ..Tally::default()
    };
    testbed.expect(passive)?;
    testbed.tfo.done(&["detach", "--all"])?;
    xdp::ensure_detached(&testbed.pair.server, SERVER_INTERFACE)?;
    xdp::ensure_pinned(&testbed.pair.server, false)
}
