//! `tfo` in containers and under limits: each refusal of the system has a cause and a remedy of its own.

use std::{ffi::OsStr, os::unix::ffi::OsStrExt as _, process::Command};

use anyhow::{Result, ensure};
use tfo_testbed::{
    netns::Netns,
    process::{self, Output, ensure_says},
    tfo::{self, LIMIT, Tfo},
    xdp,
};

use super::bad_input::{run_after, with_bpf_errno};

/// A namespace with the interfaces a0 and a1.
fn host() -> Result<(Netns, Tfo)> {
    let netns = Netns::new("confined")?;
    netns.configure(&["link add a0 type veth peer name a1"])?;
    let tfo = Tfo::new(&netns);
    Ok((netns, tfo))
}

#[test]
fn few_open_files_are_told_and_no_panic() -> Result<()> {
    let (netns, _tfo) = host()?;
    for limit in [4, 5, 6, 7, 8, 10, 12, 16, 20] {
        for command in ["attach a0", "run -i a0", "listeners", "status", "doctor a0"] {
            let tfo = tfo::binary().display().to_string();
            let script = format!(
                "ulimit -n {limit}; exec {tfo} {command} --netns {}",
                netns.name()
            );
            let output = process::output(Command::new("sh").args(["-c", &script]), LIMIT)?;
            let status = output.status.code();
            // Below 5, the program's libraries cannot be loaded.
            ensure!(
                limit < 5 || matches!(status, Some(0 | 1 | 3)),
                "{script}: {output:#?}"
            );
            if status == Some(1) {
                let told = output.stderr.lines().next_back().unwrap_or_default();
                ensure_says(
                    told,
                    &[
                        "too many open files",
                        &format!("limit {limit}"),
                        "ulimit -n",
                    ],
                )?;
            }
        }
    }
    Ok(())
}

#[test]
fn a_refused_bpf_call_names_the_filter() -> Result<()> {
    let (netns, _tfo) = host()?;
    let run = |arguments: &[&str]| -> Result<Output> {
        let mut command = Command::new(tfo::binary());
        command.args(arguments).args(["--netns", netns.name()]);
        with_bpf_errno(&mut command, libc::EPERM)?;
        process::output(&mut command, LIMIT)
    };
    let parts = ["bpf(2) is refused", "seccomp", "--security-opt seccomp="];
    run(&["attach", "a0"])?.ensure_refused(&parts)?;
    let doctor = run(&["doctor", "a0"])?;
    ensure!(doctor.status.code() == Some(3), "{doctor:#?}");
    ensure_says(&doctor.stdout, &parts)
}

#[test]
fn file_systems_that_are_absent_or_read_only_are_told() -> Result<()> {
    let (netns, _tfo) = host()?;
    let attach = ["attach", "a0"];
    let output = run_after("mount -t tmpfs none /sys", &netns, &attach)?;
    output.ensure_refused(&["/sys is not mounted", "mount -t sysfs"])?;
    let read_only =
        "mount -t bpf -o mode=0700 bpf /sys/fs/bpf; mount -o remount,bind,ro /sys/fs/bpf";
    let output = run_after(read_only, &netns, &attach)?;
    output.ensure_refused(&["/sys/fs/bpf is mounted read-only", "remount,rw"])?;
    let doctor = run_after(read_only, &netns, &["doctor", "a0"])?;
    ensure_says(
        &doctor.stdout,
        &["/sys/fs/bpf is mounted read-only", "-> mount -o remount,rw"],
    )
}

/// The kernel makes its key itself.
#[test]
fn attaching_writes_no_sysctl() -> Result<()> {
    let (netns, tfo) = host()?;
    let read_only = "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys";
    let output = run_after(read_only, &netns, &["attach", "a0"])?;
    ensure!(output.status.success(), "{output:#?}");
    let keys = tfo.json(&["keys", "show"])?;
    ensure!(
        keys["agree"] == true && keys["kernel"][0].is_string(),
        "{keys}"
    );
    let output = run_after(read_only, &netns, &["keys", "rotate"])?;
    output.ensure_refused(&["/proc/sys is mounted read-only", "--key-source kernel"])?;
    let doctor = run_after(read_only, &netns, &["doctor", "a0"])?;
    ensure_says(
        &doctor.stdout,
        &["cannot be written here", "make /proc/sys writable"],
    )
}

#[test]
fn alternative_names_are_understood() -> Result<()> {
    let (netns, tfo) = host()?;
    netns.configure(&["link property add dev a0 altname uplink-of-this-host"])?;
    let attached = || xdp::attached(&netns, "a0").map(|it| it.is_some());
    let name = "uplink-of-this-host";
    tfo.done(&["attach", name])?;
    ensure!(attached()?);
    let doctor = tfo.run(&["doctor", name])?;
    ensure_says(&doctor.stdout, &["a0 attached", "a0 XDP"])?;
    tfo.done(&["detach", name])?;
    ensure!(!attached()?);
    let mut service = tfo.start(&["run", "-i", name, "--detach-on-exit"])?;
    service.wait_for_text("a0: attached", LIMIT)?;
    let output = service.terminate(LIMIT)?;
    ensure!(
        output.status.success() && !output.stderr.contains("no such"),
        "{output:#?}"
    );
    Ok(())
}

#[test]
fn names_that_are_no_text_are_escaped_and_not_logged() -> Result<()> {
    let (netns, tfo) = host()?;
    netns.configure(&["link set a1 name \u{1b}[31mred"])?;
    let output = tfo.run(&["attach", "nowhere"])?;
    output.ensure_refused(&["\\u{1b}[31mred"])?;
    ensure!(!output.stderr.contains('\u{1b}'), "{output:#?}");
    let add = |name: &[u8]| {
        let mut command = netns.command("ip");
        command.args(["link", "add"]).arg(OsStr::from_bytes(name));
        process::succeed(command.args(["type", "veth", "peer", "name", "b1"]), LIMIT)
    };
    let mut service = tfo.start(&["run", "-i", "a0", "--detach-on-exit"])?;
    service.wait_for_text("capabilities left", LIMIT)?;
    add(b"x\xff")?;
    // Later events are followed all the same.
    netns.configure(&["link set a0 name a9"])?;
    service.wait_for_text("a0: renamed to a9", LIMIT)?;
    let output = service.terminate(LIMIT)?;
    ensure!(!output.stderr.contains("decode"), "{output:#?}");
    Ok(())
}
