//! `tfo run` with few open files: the limit is told, and one namespace's failure is its own.

use std::{env, fs, os::unix::fs::symlink, process};

use anyhow::{Context as _, Result, ensure};
use rustix::process::{Pid, Resource, Rlimit, prlimit};
use tfo_testbed::{
    keys::{self, KeyFile},
    netns::Netns,
    process::{Background, ensure_says},
    tfo::{self, LIMIT, Tfo},
    xdp,
};

use super::running::{Running, eventually};

fn section(name: &str, more: &str) -> String {
    format!("[[namespace]]\nname = '{name}'\ninterfaces = ['lo']\n{more}\n")
}

#[test]
fn few_open_files_are_told_in_each_namespace_and_nothing_panics() -> Result<()> {
    let hosts = [Netns::new("few")?, Netns::new("few")?];
    let text = hosts.each_ref().map(|host| section(host.name(), ""));
    let file = KeyFile::new(&text.concat())?;
    let mut named = 0;
    for limit in (3..=24).chain([32, 40, 48]) {
        // Files that whoever runs the tests has left open would count.
        let script = format!(
            "exec 3>&- 4>&- 5>&- 6>&- 7>&- 8>&- 9>&-; ulimit -n {limit}; exec {} run -c {} --detach-on-exit",
            tfo::binary().display(),
            file.path()
        );
        let mut service = Background::start(process::Command::new("sh").args(["-c", &script]))?;
        eventually("it attaches, or ends", || {
            let attached = service.written().concat().contains("attached in");
            Ok(attached || !service.is_running()?)
        })?;
        if service.is_running()? {
            service.terminate(LIMIT)?;
            continue;
        }
        let output = service.wait(LIMIT)?;
        // Below 5, the program's libraries cannot be loaded.
        ensure!(
            limit < 5 || output.status.code() == Some(1),
            "{limit}: {output:#?}"
        );
        let told = output.stderr.lines().next_back().unwrap_or_default();
        let shown = format!("limit {limit}");
        if output.status.code() == Some(1) {
            let parts = ["tfo: ", "too many open files", &shown, "ulimit -n"];
            ensure_says(told, &parts).with_context(|| format!("{output:#?}"))?;
        }
        named += usize::from(told.contains("network namespace") && told.contains(hosts[0].name()));
    }
    println!("{named} limits are told for a namespace");
    ensure!(named > 0, "no limit is told for a namespace");
    Ok(())
}

/// Limits the open files of the process to this many, and gives the limit before.
fn limit_files(process: u32, files: Option<u64>) -> Result<Option<u64>> {
    let process = Pid::from_raw(i32::try_from(process)?);
    let present = rustix::process::getrlimit(Resource::Nofile);
    // The hard limit can be raised by nobody in some containers.
    let limit = Rlimit {
        current: files,
        maximum: present.maximum,
    };
    Ok(prlimit(process, Resource::Nofile, limit)?.current)
}

#[test]
fn a_namespace_for_which_no_file_is_left_is_told_and_the_others_go_on() -> Result<()> {
    let (one, other) = (Netns::new("one")?, Netns::new("other")?);
    let _tfo = [Tfo::new(&one), Tfo::new(&other)];
    let late = env::temp_dir().join(format!("tfo-t{}.late", process::id()));
    let text = [
        section(one.name(), "keys = { interval = '1s' }"),
        section(&late.display().to_string(), ""),
    ];
    let file = KeyFile::new(&text.concat())?;
    let mut running = Running::start(None, &["-c", file.path(), "--detach-on-exit"])?;
    let service = running.process.id();
    // Standard input, output and error.
    let before = limit_files(service, Some(3))?;
    symlink(other.path(), &late)?;
    running.wait_for_log("no process can be started in it")?;
    let log = running.log();
    let line = log.lines().find(|line| line.contains("no process"));
    let name = late.display().to_string();
    let parts = [name.as_str(), "too many open files (limit 3)", "ulimit -n"];
    ensure_says(line.context("no line")?, &parts)?;
    xdp::ensure_pinned(&other, false)?;

    let key = one.sysctl(keys::SYSCTL)?;
    eventually("a rotation in the first namespace", || {
        Ok(one.sysctl(keys::SYSCTL)? != key)
    })?;
    limit_files(service, before)?;
    eventually("the second is attached, too", || {
        Ok(xdp::ensure_pinned(&other, true).is_ok())
    })?;
    running.end()?;
    fs::remove_file(&late)?;
    Ok(())
}
