//! Notifications to systemd, and messages to the journal.

use std::{
    env, fs,
    os::unix::fs::MetadataExt as _,
    process::{self, Command, Stdio},
};

use anyhow::{Result, ensure};
use tfo_testbed::{
    testbed::Testbed,
    tfo::{self, LIMIT},
    veth::{Pair, SERVER_INTERFACE},
};

use super::running::{Running, eventually};

#[test]
fn systemd_is_told_of_the_whole_life() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let mut command = Command::new(tfo::binary());
    command.env("WATCHDOG_USEC", "1000000");
    let server = Some(&testbed.pair.server);
    let mut running = Running::launch(command, server, &["-i", SERVER_INTERFACE])?;
    let ready = running.wait_for("READY=1")?;
    ensure!(
        ready.contains("STATUS=server0 attached, random keys (primary "),
        "{ready}"
    );
    for _ in 0..3 {
        running.wait_for("WATCHDOG=1")?;
    }
    running.process.signal(rustix::process::Signal::HUP)?;
    let reloading = running.wait_for("RELOADING=1")?;
    ensure!(reloading.contains("MONOTONIC_USEC="), "{reloading}");
    running.wait_for("READY=1")?;
    running.process.signal(rustix::process::Signal::TERM)?;
    running.wait_for("STOPPING=1")?;
    let ended = running.process.wait(LIMIT)?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}

#[test]
fn the_journal_gets_priorities_and_no_times() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let path = env::temp_dir().join(format!("tfo-t{}.journal", process::id()));
    let journal = fs::File::create(&path)?;
    let place = journal.metadata()?;
    let mut command = Command::new(tfo::binary());
    command
        .args(["run", "-i", SERVER_INTERFACE, "-i", "nowhere0"])
        .args(["--netns", testbed.pair.server.name()])
        .env("JOURNAL_STREAM", format!("{}:{}", place.dev(), place.ino()))
        .stderr(Stdio::from(journal));
    let mut child = command.spawn()?;
    let logged = eventually("it says what it does", || {
        Ok(fs::read_to_string(&path)?.contains("no such interface yet"))
    });
    child.kill()?;
    child.wait()?;
    let log = fs::read_to_string(&path)?;
    fs::remove_file(&path)?;
    logged?;
    ensure!(
        log.contains("<6>server0: attached") && log.contains("<4>nowhere0: no such interface yet"),
        "{log}"
    );
    ensure!(log.lines().all(|line| line.starts_with('<')), "{log}");
    Ok(())
}
