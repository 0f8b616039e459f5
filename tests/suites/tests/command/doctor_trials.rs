//! What `tfo doctor` tries rather than reads: bpf(2), pins, locks. It leaves nothing.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    netns::Netns,
    pins::PinsLock,
    process::{Background, Output},
    tfo::{self, LIMIT, Tfo},
};

use super::confinement::{Refused, with_errno};

/// Commands of bpf(2): `enum bpf_cmd`.
const PROG_LOAD: u64 = 5;
const OBJ_PIN: u64 = 6;

/// A namespace with tfo attached to a0.
fn host() -> Result<(Netns, Tfo)> {
    let netns = Netns::new("trials")?;
    netns.configure(&["link add a0 type veth peer name a1"])?;
    let tfo = Tfo::new(&netns);
    tfo.done(&["attach", "a0"])?;
    Ok((netns, tfo))
}

fn doctor(netns: &Netns) -> Command {
    let mut command = Command::new(tfo::binary());
    command.args(["doctor", "a0", "--json", "--netns", netns.name()]);
    command
}

/// Runs the doctor. Fails where it leaves anything.
fn examine(command: &mut Command) -> Result<Value> {
    let running = Background::start(command)?;
    let pid = running.id();
    let output = running.wait(LIMIT)?;
    for left in [
        format!("/sys/fs/bpf/tfo-trial{pid}"),
        format!("/run/tfo/trial{pid}"),
    ] {
        ensure!(fs::symlink_metadata(&left).is_err(), "{left} is left");
    }
    let Output { stdout, .. } = &output;
    serde_json::from_str(stdout).with_context(|| format!("{output:#?}"))
}

/// Fails unless the doctor has this finding, with this text in it or in its remedy.
fn ensure_found(found: &Value, check: &str, verdict: &str, says: &[&str]) -> Result<()> {
    let mut findings = found["findings"].as_array().context("no findings")?.iter();
    let finding = findings.find(|each| each["check"] == check && each["verdict"] == verdict);
    let finding = finding.with_context(|| format!("no {check} in {found:#}"))?;
    let text = format!("{} {}", finding["found"], finding["remedy"]);
    for part in says {
        ensure!(text.contains(part), "no {part:?} in {finding:#}");
    }
    Ok(())
}

#[test]
fn what_works_is_tried_and_leaves_nothing() -> Result<()> {
    let (netns, _tfo) = host()?;
    let found = examine(&mut doctor(&netns))?;
    ensure_found(&found, "BPF", "ok", &["works"])?;
    ensure_found(&found, "bpffs", "ok", &["takes pins"])?;
    ensure_found(&found, "locks", "ok", &["can be taken"])
}

/// Maps can be made all the while.
#[test]
fn one_call_that_is_refused_is_found() -> Result<()> {
    let (netns, _tfo) = host()?;
    let seccomp = "seccomp";
    for (refused, check, verdict, says) in [
        (
            Refused::Command(libc::SYS_bpf, PROG_LOAD),
            "BPF",
            "problem",
            &["bpf(2) is refused", seccomp][..],
        ),
        (
            Refused::Command(libc::SYS_bpf, OBJ_PIN),
            "bpffs",
            "problem",
            &["cannot pin", seccomp],
        ),
        (
            Refused::Call(libc::SYS_flock),
            "locks",
            "warning",
            &["/run/tfo/", "forbids flock(2)", seccomp],
        ),
    ] {
        let mut command = doctor(&netns);
        with_errno(&mut command, &[refused], libc::EPERM)?;
        let found = examine(&mut command)?;
        ensure_found(&found, check, verdict, says)?;
    }
    Ok(())
}

#[test]
fn a_lock_that_is_held_is_told_within_a_moment() -> Result<()> {
    let (netns, tfo) = host()?;
    let lock = PinsLock::take(&netns)?;
    let mut command = doctor(&netns);
    // Longer than the test.
    command.env("TFO_TEST_LOCK_WAIT", "3600");
    let found = examine(&mut command)?;
    let holder = format!("process {} (", std::process::id());
    let says = ["/sys/fs/bpf/tfo/", holder.as_str(), "end that process"];
    ensure_found(&found, "locks", "warning", &says)?;
    ensure_found(&found, "policy", "unknown", &["holds the lock"])?;
    drop(lock);
    let found = examine(&mut doctor(&netns))?;
    ensure_found(&found, "locks", "ok", &["can be taken"])?;
    // A service's lock is its own.
    let mut service = tfo.start(&["run", "-i", "a0"])?;
    service.wait_for_text("capabilities left", LIMIT)?;
    let found = examine(&mut doctor(&netns))?;
    let holder = format!("process {}", service.id());
    ensure_found(&found, "locks", "ok", &[&holder])?;
    service.terminate(LIMIT).map(drop)
}

#[test]
fn a_run_directory_that_takes_no_file_is_found() -> Result<()> {
    let (netns, _tfo) = host()?;
    for (options, says) in [("ro", "that can be written"), ("nr_inodes=1", "inodes")] {
        let script = format!(
            "mkdir -p /run/tfo; mount -t tmpfs -o {options} none /run/tfo; exec \"$0\" \"$@\""
        );
        let mut command = Command::new("unshare");
        command
            .args(["--mount", "sh", "-ec", &script])
            .arg(tfo::binary());
        command.args(["doctor", "a0", "--json", "--netns", netns.name()]);
        let found = examine(&mut command)?;
        ensure_found(
            &found,
            "locks",
            "warning",
            &["`tfo run` cannot start", says],
        )?;
    }
    Ok(())
}
