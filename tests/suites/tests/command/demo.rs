//! `tfo demo`: what it shows is what happened, and nothing is left of it.

use std::{collections::BTreeSet, fs, process::Command};

use anyhow::{Context as _, Result, bail, ensure};
use aya::programs::loaded_programs;
use rustix::process::Signal;
use serde_json::Value;
use tfo_testbed::{
    poll::eventually,
    process::{self, Background, Output},
    tfo::{self, LIMIT},
};

use super::confinement::{Refused, with_errno};

/// The message of `tfo demo` where a SYN was not answered for a second, as may happen on a busy
/// machine.
const STALLED: &str = "this machine stalled";
const TRIES: usize = 5;

/// Runs `tfo demo`, again where this machine stalled.
fn demo(arguments: &[&str]) -> Result<Output> {
    for _ in 0..TRIES {
        let mut command = Command::new(tfo::binary());
        let output = process::output(command.arg("demo").args(arguments), LIMIT)?;
        if !output.stderr.contains(STALLED) {
            ensure!(output.status.success(), "{output:#?}");
            return Ok(output);
        }
    }
    bail!("this machine stalled {TRIES} times")
}

/// Starts `tfo demo`, and stops it on its way. On a busy machine it may come to its end first, and is started again.
fn stopped() -> Result<Background> {
    for _ in 0..TRIES {
        let mut demo = Background::start(Command::new(tfo::binary()).arg("demo"))?;
        demo.wait_for_text("no Fast Open: ", LIMIT)?;
        let mut state = None;
        if demo.signal(Signal::STOP).is_ok() {
            eventually("tfo demo is stopped, or ended", LIMIT, || {
                state = state_of(demo.id());
                Ok(matches!(state, None | Some('T' | 'Z')))
            })?;
        }
        if state == Some('T') {
            return Ok(demo);
        }
        demo.wait(LIMIT)?;
    }
    bail!("tfo demo came to its end before it could be stopped, {TRIES} times")
}

/// The state of a process, as proc(5) has it; `None` where it is gone.
fn state_of(process: u32) -> Option<char> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(") ")?.1.chars().next()
}

/// A program of this id is loaded.
fn is_loaded(id: u32) -> bool {
    loaded_programs()
        .flatten()
        .any(|program| program.id() == id)
}

fn wait_until_gone(id: u32) -> Result<()> {
    let what = format!("program {id} is gone");
    eventually(&what, LIMIT, || Ok(!is_loaded(id))).map(drop)
}

/// The program's id, from the line about it.
fn program(text: &str) -> Result<u32> {
    let (_, rest) = text.split_once("program ").context("no program")?;
    let (id, _) = rest.split_once(' ').context("no id")?;
    Ok(id.parse()?)
}

#[test]
fn it_shows_what_the_kernel_did() -> Result<()> {
    let shown: Value = serde_json::from_str(&demo(&["--json"])?.stdout)?;
    let families = if fs::exists("/proc/sys/net/ipv6")? {
        2
    } else {
        1
    };
    let steps = shown["steps"].as_array().context("no steps")?;
    let step = |name: &str| {
        let mut steps = steps.iter();
        let step = steps.find(|step| step["step"] == name);
        step.with_context(|| format!("no step {name:?} in {shown:#}"))
    };
    for (name, in_syn, counted) in [
        ("plain", false, &[] as &[&str]),
        ("request", false, &["TCPFastOpenCookieReqd"]),
        ("cookie", true, &["TCPFastOpenPassive"]),
        (
            "old key",
            true,
            &["TCPFastOpenPassive", "TCPFastOpenPassiveAltKey"],
        ),
        ("new key", true, &["TCPFastOpenPassive"]),
        (
            "wrong cookie",
            false,
            &["TCPFastOpenPassiveFail", "ReasonBadCookie"],
        ),
        ("recovered", true, &["TCPFastOpenPassive"]),
    ] {
        let step = step(name)?;
        let connections = step["connections"].as_array().context("no connections")?;
        ensure!(connections.len() == families, "{step:#}");
        for connection in connections {
            let told = connection["client_fail"].as_str();
            ensure!(connection["in_syn"] == in_syn, "{step:#}");
            // 40 ms are a round trip; the reply takes two without data in the SYN.
            let least = if in_syn { 40.0 } else { 80.0 };
            ensure!(connection["reply_ms"].as_f64() >= Some(least), "{step:#}");
            let refused = name == "wrong cookie";
            ensure!(!refused || told == Some("data-not-acked"), "{step:#}");
        }
        let syns = step["counted"]["Syns"].as_u64();
        ensure!(syns == Some(families as u64), "{step:#}");
        for counter in counted {
            ensure!(step["counted"][counter] == families, "{step:#}");
        }
        let others = step["counted"].as_object().context("no object")?.keys();
        let others: BTreeSet<_> = others
            .filter(|name| name.starts_with("TCPFastOpen") || name.starts_with("Reason"))
            .map(String::as_str)
            .collect();
        ensure!(others == counted.iter().copied().collect(), "{step:#}");
    }
    let [ours, kernel] = ["counters", "kernel"].map(|side| &shown[side]);
    for (counter, times) in [
        ("TCPFastOpenCookieReqd", 1),
        ("TCPFastOpenPassive", 4),
        ("TCPFastOpenPassiveAltKey", 1),
        ("TCPFastOpenPassiveFail", 1),
    ] {
        let expected = times * families;
        ensure!(
            ours[counter] == expected && kernel[counter] == expected,
            "{shown:#}"
        );
        ensure!(shown["drift"][counter] == 0, "{shown:#}");
    }
    ensure!(shown["equal"] == true, "{shown:#}");
    let id = shown["program"].as_u64().context("no program")?;
    wait_until_gone(u32::try_from(id)?)
}

#[test]
fn its_text_is_for_people() -> Result<()> {
    let text = demo(&[])?.stdout;
    process::ensure_says(
        &text,
        &[
            "the client asks for a cookie, and the server gives one",
            "counted: TCPFastOpenCookieReqd +",
            "the request is in the SYN",
            "the cookie is refused, and replaced",
            "TCPFastOpenPassiveFail",
            "tfo and the kernel counted the same",
            "round trips of 40 ms",
        ],
    )?;
    // What did not occur is not shown.
    let table = text.split_once("\ncounter ").context("no table")?.1;
    let rows = table.lines().skip(1).take_while(|line| !line.is_empty());
    let mut counters = 0;
    for row in rows {
        let numbers = row.split_whitespace().skip(1).take(2);
        ensure!(numbers.clone().any(|it| it != "0"), "{row:?} in {text}");
        counters += 1;
    }
    ensure!((4..20).contains(&counters), "{counters} rows: {text}");
    ensure!(!text.contains("+0"), "{text}");
    wait_until_gone(program(&text)?)
}

/// Also by a signal that nobody can handle.
#[test]
fn nothing_is_left_of_one_that_is_interrupted() -> Result<()> {
    for signal in [Signal::INT, Signal::TERM, Signal::KILL] {
        let demo = stopped()?;
        let [text, _] = demo.written();
        let id = program(&text)?;
        demo.signal(signal)?;
        demo.signal(Signal::CONT)?;
        let output = demo.wait(LIMIT)?;
        ensure!(!output.status.success(), "{output:#?}");
        wait_until_gone(id).with_context(|| format!("{signal:?}"))?;
    }
    Ok(())
}

/// No pins and no mounts appear outside: another process's view of the BPF file system stays as it is.
#[test]
fn nobody_else_sees_it() -> Result<()> {
    let demo = stopped()?;
    let of = |process: &str, file: &str| fs::read_to_string(format!("/proc/{process}/{file}"));
    let id = demo.id().to_string();
    let ours = of("self", "mountinfo")?;
    let mounts = |text: &str| -> BTreeSet<String> {
        let lines = text.lines().filter(|line| line.contains(" /sys/fs/bpf "));
        lines.map(str::to_owned).collect()
    };
    let theirs = of(&id, "mountinfo")?;
    ensure!(
        mounts(&theirs).len() == mounts(&ours).len() + 1,
        "{theirs}\n{ours}"
    );
    let namespace = |process: &str| fs::read_link(format!("/proc/{process}/ns/net"));
    ensure!(namespace(&id)? != namespace("self")?);
    demo.signal(Signal::KILL)?;
    demo.wait(LIMIT).map(drop)
}

#[test]
fn what_it_cannot_have_is_told_with_a_remedy() -> Result<()> {
    let output = process::output(
        Command::new("setpriv").args([
            "--reuid=65534",
            "--regid=65534",
            "--clear-groups",
            "--inh-caps=-all",
            &tfo::binary().display().to_string(),
            "demo",
        ]),
        LIMIT,
    )?;
    output.ensure_refused(&[
        "this process lacks CAP_BPF",
        "CAP_SYS_ADMIN",
        "run it as root",
    ])?;
    let mut command = Command::new(tfo::binary());
    with_errno(
        command.arg("demo"),
        &[Refused::Call(libc::SYS_bpf)],
        libc::EPERM,
    )?;
    process::output(&mut command, LIMIT)?.ensure_refused(&["bpf(2) is refused", "seccomp"])?;
    let output = process::output(
        Command::new(tfo::binary()).args(["demo", "--netns", "blue"]),
        LIMIT,
    )?;
    ensure!(
        output.status.code() == Some(2) && output.stderr.contains("leave out --netns"),
        "{output:#?}"
    );
    Ok(())
}

/// In a user namespace: its limit of network namespaces, and mounts of BPF file systems.
#[test]
fn what_a_user_namespace_lacks_is_told() -> Result<()> {
    let tfo = tfo::binary().display().to_string();
    let run = |script: String| {
        let mut command = Command::new("unshare");
        command.args(["--user", "--map-root-user", "--mount", "sh", "-c", &script]);
        process::output(&mut command, LIMIT)
    };
    let output = run(format!(
        "echo 0 > /proc/sys/user/max_net_namespaces && exec {tfo} demo"
    ))?;
    let remedy = "sysctl -w user.max_net_namespaces=1024";
    output.ensure_refused(&["no network namespace", remedy])?;
    let output = run(format!(
        "echo 0 > /proc/sys/user/max_net_namespaces && {remedy} >/dev/null && exec {tfo} demo"
    ))?;
    output.ensure_refused(&["in a user namespace"])?;
    let output = run(format!("exec {tfo} demo"))?;
    output.ensure_refused(&["in a user namespace", "run it in the host's"])
}
