//! Concurrent processes on one interface.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Signal, kill_process};
use tfo_testbed::{
    process::Background,
    testbed::Testbed,
    tfo,
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

use super::{LIMIT, cookie, is_pinned, shell, wait_for};

const AT_ONCE: usize = 50;

#[test]
fn of_many_attaches_at_once_one_does() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let attach = ["attach", SERVER_INTERFACE];
    // Every fifth attach fails, and removes its pins.
    let fails = ["attach", "lo", "--mode", "native"];
    let started = (0..AT_ONCE)
        .map(|number| {
            let arguments = if number % 5 == 0 { &fails[..] } else { &attach };
            testbed.tfo.start(arguments)
        })
        .collect::<Result<Vec<Background>>>()?;
    let mut attached = 0;
    for (number, process) in started.into_iter().enumerate() {
        let output = process.wait(LIMIT)?;
        if output.status.success() {
            attached += 1;
        } else if number % 5 == 0 {
            output.ensure_refused(&["lo", "native"])?;
        } else {
            output.ensure_refused(&[SERVER_INTERFACE, "attached already"])?;
        }
    }
    ensure!(attached == 1, "{attached} of the processes attached");
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let stats = testbed.tfo.stats()?;
    ensure!(
        stats.drift.values().all(|drift| *drift == 0)
            && stats.counters.get("TCPFastOpenCookieReqd") == Some(&1),
        "{stats:?}"
    );
    testbed.tfo.done(&["detach", "--all"])?;
    ensure!(!is_pinned(cookie(&testbed.pair.server)?));
    xdp::ensure_detached(&testbed.pair.server, SERVER_INTERFACE)?;
    Ok(())
}

/// Waits for a controller, and returns its process id.
fn controller(testbed: &Testbed) -> Result<u32> {
    wait_for("a controller", || {
        let pid = testbed.tfo.json(&["status"])?["controller"]["pid"].as_u64();
        Ok(pid.map(u32::try_from).transpose()?)
    })
}

#[test]
fn a_second_controller_is_refused_with_the_pid_of_the_first() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let run = ["run", "-i", SERVER_INTERFACE, "--interval", "1h"];
    ensure!(testbed.tfo.json(&["status"])?["controller"]["pid"] == serde_json::Value::Null);
    let first = testbed.tfo.start(&run)?;
    let pid = controller(&testbed)?;
    let second = testbed.tfo.run(&run)?;
    let shown = format!("process {pid})");
    ensure!(
        second.status.code() == Some(1)
            && second.stderr.contains(SERVER_INTERFACE)
            && second.stderr.contains(&shown),
        "{second:?}"
    );
    wait_for("the interface", || {
        let status = testbed.tfo.json(&["status"])?;
        Ok(status["interfaces"][0]["mode"].as_str().map(|_| ()))
    })?;
    let program = xdp::attached(&testbed.pair.server, SERVER_INTERFACE)?;
    // Manual changes are possible beside the controller.
    testbed.tfo.done(&["keys", "rotate"])?;

    let raw = i32::try_from(pid)?;
    let process = Pid::from_raw(raw).context("no process id")?;
    kill_process(process, Signal::KILL)?;
    let ended = first.wait(LIMIT)?;
    ensure!(!ended.status.success(), "{ended:?}");
    ensure!(testbed.tfo.json(&["status"])?["controller"]["pid"] == serde_json::Value::Null);
    ensure!(xdp::attached(&testbed.pair.server, SERVER_INTERFACE)? == program);
    let third = testbed.tfo.start(&run)?;
    ensure!(controller(&testbed)? != pid);
    let ended = third.terminate(LIMIT)?;
    ensure!(ended.status.success(), "{ended:?}");
    ensure!(xdp::attached(&testbed.pair.server, SERVER_INTERFACE)? == program);
    let lock = format!("/run/tfo/net{}.lock", cookie(&testbed.pair.server)?);
    ensure!(
        !std::path::Path::new(&lock).exists(),
        "{lock} was not removed"
    );
    Ok(())
}

#[test]
fn a_lock_that_cannot_be_written_is_named_with_its_remedy() -> Result<()> {
    let pair = Pair::new()?;
    let script = format!(
        "mkdir -p /run/tfo; mount -t tmpfs -o ro none /run/tfo
        exec $tfo run -i {SERVER_INTERFACE} $net"
    );
    let output = tfo_testbed::process::output(&mut shell(&pair.server, &script), LIMIT)?;
    output.ensure_refused(&[
        "/run/tfo/net",
        "Read-only",
        "mount a file system at /run/tfo",
    ])?;
    xdp::ensure_detached(&pair.server, SERVER_INTERFACE)?;
    // Without a controller, the lock is not needed.
    let mut status = Command::new(tfo::binary());
    status.args(["status", "--netns", pair.server.name()]);
    tfo_testbed::process::succeed(&mut status, LIMIT)?;
    Ok(())
}
