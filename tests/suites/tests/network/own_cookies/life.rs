//! Own cookies switched on and off, renewed under load, moved along, and killed.

use std::{
    env, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    returning::while_clients_return,
    seed::rng,
    socket::Method,
    testbed::Testbed,
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp::{self, Mode},
};

use super::{ensure_own, pass_slots, replace_keys, testbed};

/// Switched on, the kernel's cookies stay good; switched off, an own one costs one round trip, once.
#[test]
fn switching_loses_no_connection() -> Result<()> {
    let testbed = Testbed::new()?;
    for family in Family::BOTH {
        let listener = testbed.listen(family)?;
        testbed.request_cookie(&listener, family)?;
        testbed.tfo.done(&["cookies", "set"])?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
        testbed.pair.forget_cookies()?;
        testbed.request_cookie(&listener, family)?;
        ensure_own(&testbed, family)?;
        // Set again, the secrets stay.
        testbed.tfo.done(&["cookies", "set", "--lifetime", "10d"])?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
        let said = testbed.tfo.done(&["cookies", "clear"])?;
        ensure!(said.starts_with("no own cookies"), "{said}");
        testbed.after_handshake(&listener, family, Method::SendTo)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    testbed.equal()?;
    Ok(())
}

/// Own cookies move along with the data path, and an upgrade in place keeps them.
#[test]
fn moves_and_upgrades_keep_own_cookies() -> Result<()> {
    let testbed = testbed(Mode::Tc, &[])?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    replace_keys(&testbed)?;
    for arguments in [
        ["--mode", "generic"],
        ["--mode", "native"],
        ["--mode", "tc"],
        ["--source-prefix-v4", "24"],
    ] {
        let attach = ["attach", "--replace", SERVER_INTERFACE];
        testbed.tfo.done(&[&attach[..], &arguments].concat())?;
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        testbed.pair.forget_cookies()?;
        testbed.request_cookie(&listener, Family::V4)?;
        ensure_own(&testbed, Family::V4)?;
    }
    testbed.tfo.done(&["detach", "--all"])?;
    testbed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    Ok(())
}

/// Clients that come back all the time have their cookies renewed in time. `TFO_SECRETS` sets the number of secrets.
#[test]
fn secrets_that_change_under_load_refuse_no_cookie() -> Result<()> {
    let count = match env::var("TFO_SECRETS") {
        Ok(text) => text.parse().context("TFO_SECRETS")?,
        Err(_) => 100,
    };
    let testbed = testbed(Mode::Tc, &["--interval", "1h", "--lifetime", "10h"])?;
    let visits = while_clients_return(&testbed, |wait| {
        for _ in 0..count {
            pass_slots(&testbed, 1)?;
            wait()?;
        }
        Ok(())
    })?;
    println!("{count} secrets, {visits:?}");
    ensure!(visits.refused == 0, "{visits:?}");
    let stats = testbed.equal()?;
    ensure!(stats.counters["TCPFastOpenPassiveFail"] == 0, "{stats:?}");
    ensure!(stats.counters["OwnExpired"] == 0, "{stats:?}");
    Ok(())
}

/// A command that is killed at any moment leaves something that works, and nothing behind. `TFO_KILLS` sets the number of kills.
#[test]
fn killed_commands_leave_what_works() -> Result<()> {
    const COMMANDS: [&[&str]; 2] = [&["cookies", "set"], &["cookies", "clear"]];
    let kills = match env::var("TFO_KILLS") {
        Ok(text) => text.parse().context("TFO_KILLS")?,
        Err(_) => 200,
    };
    let mut random = rng()?;
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    // The time that each takes, so that kills are spread over all of it, however fast the machine is.
    let mut took = [Duration::ZERO; 2];
    for (command, took) in COMMANDS.iter().zip(&mut took) {
        let start = Instant::now();
        testbed.tfo.done(command)?;
        *took = start.elapsed();
    }
    let mut killed = 0;
    for kill in 1..=kills {
        let which = random.usize(0..2);
        let mut victim = testbed.tfo.start(COMMANDS[which])?;
        thread::sleep(took[which].mul_f64(random.f64()));
        killed += u64::from(victim.is_running()?);
        // Drop kills the process, if it still runs.
        drop(victim);
        testbed.exchange(&listener, Family::V4, Method::SendTo)?;
        if kill % 10 == 0 {
            testbed.tfo.done(&["cookies", "set"])?;
            testbed.pair.forget_cookies()?;
            testbed.request_cookie(&listener, Family::V4)?;
            ensure_own(&testbed, Family::V4)?;
            testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        }
    }
    println!("{kills} commands, {killed} killed before their end; set and clear take {took:?}");
    testbed.equal()?;
    testbed.tfo.done(&["detach", "--all"])?;
    xdp::ensure_pinned(&testbed.pair.server, false)
}

/// An interface that does not translate issues none, by whatever way it came to that.
#[test]
fn without_translation_clients_get_the_kernels_cookies() -> Result<()> {
    let testbed = testbed(Mode::Tc, &[])?;
    let listener = testbed.listen(Family::V4)?;
    let keeps_fast_open = |family| -> Result<()> {
        testbed.pair.forget_cookies()?;
        testbed.request_cookie(&listener, family)?;
        testbed.in_syn(&listener, family, Method::SendTo)
    };
    keeps_fast_open(Family::V4)?;
    let attach = ["attach", "--replace", SERVER_INTERFACE, "--mirror"];
    testbed.tfo.done(&[&attach[..], &["packet"]].concat())?;
    keeps_fast_open(Family::V4)?;
    testbed
        .tfo
        .run(&["cookies", "set"])?
        .ensure_refused(&["--mirror exact"])?;
    testbed.tfo.done(&["guard", "set", "on", "--force"])?;
    keeps_fast_open(Family::V4)?;
    testbed.tfo.done(&["guard", "clear"])?;
    testbed.tfo.done(&[&attach[..], &["exact"]].concat())?;
    keeps_fast_open(Family::V4)?;
    ensure_own(&testbed, Family::V4)?;
    Ok(())
}

/// Rules that would have no effect, or cannot be kept, are refused with the remedy.
#[test]
fn what_cannot_be_is_refused() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let tfo = &testbed.tfo;
    let set = |more: &[&str]| tfo.run(&[&["cookies", "set"], more].concat());
    set(&[])?.ensure_refused(&["tfo attach"])?;
    tfo.done(&["attach", SERVER_INTERFACE, "--mirror", "packet"])?;
    set(&[])?.ensure_refused(&["--mirror packet", "--mirror exact"])?;
    tfo.done(&["attach", "--replace", SERVER_INTERFACE, "--mirror", "exact"])?;
    set(&["--lifetime", "36h"])?.ensure_refused(&["1 to 100 whole intervals"])?;
    set(&["--secret-file", "/nonexistent"])?.ensure_refused(&["/nonexistent"])?;
    for wrong in [
        ["--client-prefix-v4", "33"],
        ["--client-prefix-v6", "63"],
        ["--service", "a b"],
        ["--interval", "0s"],
    ] {
        let output = set(&wrong)?;
        ensure!(output.status.code() == Some(2), "{wrong:?}: {output:?}");
    }
    ensure!(tfo.json(&["cookies", "show"])?["in_force"] == false);
    Ok(())
}
