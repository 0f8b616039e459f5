//! A read-only sysctl, and a service that is stopped during a key change.

use std::{process::Command, thread, time::Duration};

use anyhow::{Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    seed::rng_with,
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
    testbed.request_cookie(&listener, Family::V4)?;
    // Time for three more attempts, which are not logged.
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
    let mut random = rng_with(3)?;
    let mut changed = 0;
    let mut round = 0;
    while round < ROUNDS || changed == 0 {
        round += 1;
        ensure!(
            round < 10 * ROUNDS,
            "no change took place in {round} rounds"
        );
        let arguments = by_file(&file);
        let running = Running::start(Some(server), &arguments)?;
        let pair = format!("{},{}", numbered(round), numbered(round - 1));
        file.replace(&pair)?;
        // On a machine too slow for any change, each round gives more time.
        let most = if changed == 0 { 1000 * round } else { 1000 };
        thread::sleep(Duration::from_micros(random.u64(..u64::from(most))));
        running.end()?;
        let keys = server.sysctl(keys::SYSCTL)?;
        changed += u32::from(keys == pair);
        // A change that was started is completed: the kernel and the data path have the same keys.
        let [kernel, accepted] = super::running::fingerprints(&testbed.tfo)?;
        ensure!(kernel == accepted, "{kernel:?}, {accepted:?}");
    }
    println!("{changed} of {round} ended after the change");
    ensure!(changed > 0, "none of {round} ended after the change");
    Ok(())
}
