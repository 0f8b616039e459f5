//! A kernel that does not let keys be changed, and a service that is told to end at a bad moment.

use std::{process::Command, thread, time::Duration};

use anyhow::{Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    socket::Method,
    testbed::Testbed,
    tfo,
    veth::{Family, Pair, SERVER_INTERFACE},
};

use super::running::{Running, by_file, count, ensure_accepted, numbered};

#[test]
fn a_sysctl_that_cannot_be_written_is_said_once() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    server.set_sysctl(keys::SYSCTL, &numbered(1))?;
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec"])
        .arg("mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys; exec \"$0\" \"$@\"")
        .arg(tfo::binary());
    let arguments = ["-i", SERVER_INTERFACE, "--interval", "1s"];
    let mut running = Running::launch(command, Some(server), &arguments)?;
    running.wait_for("READY=1")?;
    let listener = testbed.listen(Family::V4)?;
    testbed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    thread::sleep(Duration::from_millis(3500));
    ensure!(server.sysctl(keys::SYSCTL)? == numbered(1));
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    ensure_accepted(&testbed.tfo)?;
    let output = running.end()?;
    let log = output.stdout + &output.stderr;
    ensure!(
        count(
            &log,
            "keys not changed: cannot write /proc/sys/net/ipv4/tcp_fastopen_key"
        ) == 1,
        "{log}"
    );
    testbed.equal().map(drop)
}

#[test]
fn a_service_that_ends_amid_a_change_ends_whole() -> Result<()> {
    const ROUNDS: u32 = 40;
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let file = KeyFile::new(&numbered(0))?;
    let mut random = fastrand::Rng::with_seed(3);
    let mut changed = 0;
    for round in 1..=ROUNDS {
        let arguments = by_file(&file);
        let running = Running::start(Some(server), &arguments)?;
        let pair = format!("{},{}", numbered(round), numbered(round - 1));
        file.replace(&pair)?;
        thread::sleep(Duration::from_micros(random.u64(..1000)));
        running.end()?;
        let keys = server.sysctl(keys::SYSCTL)?;
        changed += u32::from(keys == pair);
        // What was begun was ended: both sides agree to the last key.
        let [kernel, accepted] = super::running::fingerprints(&testbed.tfo)?;
        ensure!(kernel == accepted, "{kernel:?}, {accepted:?}");
    }
    println!("{changed} of {ROUNDS} ended after the change");
    Ok(())
}
