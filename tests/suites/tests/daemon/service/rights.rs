//! Privileges of the service after attach, and its use of CPU and memory.

use std::{
    fs, thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    testbed::Testbed,
    tfo,
    veth::{Pair, SERVER_INTERFACE},
    xdp,
};

use super::running::{Running, ensure_accepted, eventually};

/// `CAP_NET_ADMIN` (12), `CAP_PERFMON` (38), `CAP_BPF` (39).
const KEPT: u64 = 1 << 12 | 1 << 38 | 1 << 39;

/// The field `name` of `/proc/PID/task/*/status`, hexadecimal, for every thread.
fn of_threads(pid: u32, name: &str) -> Result<Vec<u64>> {
    let mut values = Vec::new();
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        let status = fs::read_to_string(thread?.path().join("status"))?;
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let value = line.with_context(|| format!("no {name}"))?;
        values.push(u64::from_str_radix(value.trim(), 16)?);
    }
    Ok(values)
}

#[test]
fn what_is_not_needed_any_more_is_dropped_for_good() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let text = |interfaces: &str| {
        format!("interfaces = [{interfaces}]\ndetach-on-exit = true\n[keys]\ninterval = '1s'\n")
    };
    let file = KeyFile::new(&text("'server0'"))?;
    // With metrics there are three threads: the main one, the namespace's, and the one that reads its facts.
    let arguments = ["-c", file.path(), "--metrics"];
    let mut running = Running::start(Some(server), &arguments)?;
    let pid = running.process.id();
    for (name, kept) in [
        ("CapEff:", KEPT),
        ("CapPrm:", KEPT),
        ("CapBnd:", KEPT),
        ("CapInh:", 0),
        ("CapAmb:", 0),
        ("NoNewPrivs:", 1),
    ] {
        let threads = of_threads(pid, name)?;
        println!("{name} {threads:x?}");
        ensure!(
            threads.len() >= 3 && threads.iter().all(|value| *value == kept),
            "{name} {threads:x?}"
        );
    }
    // The service can still rotate keys, read maps, attach and detach.
    let key = server.sysctl(keys::SYSCTL)?;
    eventually("a rotation", || Ok(server.sysctl(keys::SYSCTL)? != key))?;
    file.replace(&text("'server0', 'lo'"))?;
    running.reload()?;
    xdp::ensure_attached(server, "lo")?;
    file.replace(&text("'lo'"))?;
    running.reload()?;
    xdp::ensure_detached(server, SERVER_INTERFACE)?;
    let output = running.end()?;
    xdp::ensure_pinned(server, false)?;
    let log = output.stdout + &output.stderr;
    ensure!(
        log.contains("capabilities left: CAP_NET_ADMIN CAP_PERFMON CAP_BPF"),
        "{log}"
    );
    ensure!(!log.contains("ERROR"), "{log}");
    Ok(())
}

#[test]
fn three_capabilities_are_enough() -> Result<()> {
    // `Testbed` mounts the BPF file system, which the service's capabilities do not allow.
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
    for taken_over in [false, true] {
        let mut command = server.command("setpriv");
        command
            .args([
                "--bounding-set=-all,+bpf,+net_admin,+perfmon",
                "--inh-caps=-all",
            ])
            .arg(tfo::binary());
        let arguments = ["-i", SERVER_INTERFACE, "--interval", "1s"];
        let mut running = Running::launch(command, None, &arguments)?;
        running.wait_for("READY=1")?;
        let key = server.sysctl(keys::SYSCTL)?;
        eventually("a rotation", || Ok(server.sysctl(keys::SYSCTL)? != key))?;
        ensure_accepted(&testbed.tfo)?;
        let output = running.end()?;
        let log = output.stdout + &output.stderr;
        ensure!(log.contains("taken over as it is") == taken_over, "{log}");
        ensure!(!log.contains("ERROR"), "{log}");
    }
    Ok(())
}

/// The sum over the threads of `pid` of how often they have gone to sleep: unlike the time on a CPU, no load of the machine
/// raises it.
fn sleeps(pid: u32) -> Result<u64> {
    let mut sum = 0;
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may have ended meanwhile.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else {
            continue;
        };
        sum += number(&status, "voluntary_ctxt_switches:")?;
    }
    Ok(sum)
}

/// The decimal field `name` of a `status` of procfs.
fn number(status: &str, name: &str) -> Result<u64> {
    let value = status.lines().find_map(|line| line.strip_prefix(name));
    let value = value.and_then(|text| text.split_whitespace().next());
    Ok(value.with_context(|| format!("no {name}"))?.parse()?)
}

#[test]
fn it_is_small_and_sleeps() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let running = Running::start(Some(&testbed.pair.server), &["-i", SERVER_INTERFACE])?;
    let pid = running.process.id();
    let (before, began) = (sleeps(pid)?, Instant::now());
    // Nothing to wait for: this is the time in which wakeups are counted.
    thread::sleep(Duration::from_secs(10));
    let wakeups = sleeps(pid)?.saturating_sub(before);
    let seconds = began.elapsed().as_secs();
    let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
    // Not VmRSS: most of that is code, whose size depends on the profile.
    let anonymous = number(&status, "RssAnon:")?;
    println!("anonymous memory: {anonymous} KiB; idle: {wakeups} wakeups in {seconds} s");
    ensure!(anonymous < 6 << 10, "{anonymous} KiB");
    ensure!(
        wakeups <= 15 * seconds,
        "{wakeups} wakeups in {seconds} s: more than its checks, twice a second, need"
    );
    running.end().map(drop)
}
