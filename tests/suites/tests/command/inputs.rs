//! Inputs and outputs of `tfo`: lists of interfaces, files, flags that depend on each other,
//! standard output.

use std::{fs, process::Command};

use anyhow::{Result, ensure};
use rustix::fs::{CWD, Mode, mkfifoat};
use serde_json::json;
use tfo_testbed::{
    keys::KeyFile,
    netns::Netns,
    process::{self, Output, ensure_says},
    tfo::{self, LIMIT, Tfo},
    xdp,
};

/// An interface that does not exist.
const NOWHERE: &str = "nosuch0";

/// A namespace with two interfaces to attach to.
fn two_interfaces() -> Result<(Netns, Tfo)> {
    let netns = Netns::new("inputs")?;
    netns.configure(&["link add a0 type veth peer name a1"])?;
    let tfo = Tfo::new(&netns);
    Ok((netns, tfo))
}

fn ensure_usage(output: &Output, parts: &[&str]) -> Result<()> {
    ensure!(
        output.status.code() == Some(2) && output.stdout.is_empty(),
        "{output:#?}"
    );
    ensure_says(&output.stderr, parts)
}

#[test]
fn each_interface_is_tried_and_told() -> Result<()> {
    let (netns, tfo) = two_interfaces()?;
    let attached = |name: &str| xdp::attached(&netns, name).map(|it| it.is_some());
    for (command, expected) in [("attach", true), ("detach", false)] {
        let output = tfo.run(&[command, "a0", NOWHERE, "a1"])?;
        ensure!(output.status.code() == Some(1), "{output:#?}");
        ensure_says(&output.stdout, &["a0: ", "a1: "])?;
        let error = format!("tfo: interface {NOWHERE}: ");
        let told = output.stderr.matches(&error).count();
        ensure!(told == 1, "{output:#?}");
        ensure!(attached("a0")? == expected && attached("a1")? == expected);
    }
    tfo.done(&["attach", "a0"])?;
    let output = tfo.run(&["attach", "a0", "a1"])?;
    ensure!(output.status.code() == Some(1), "{output:#?}");
    ensure_says(&output.stderr, &["a0: tfo is attached already"])?;
    ensure!(attached("a1")?, "{output:#?}");
    Ok(())
}

#[test]
fn endless_and_blocking_files_are_refused() -> Result<()> {
    let (_netns, tfo) = two_interfaces()?;
    tfo.done(&["attach", "a0"])?;
    let fifo = std::env::temp_dir().join(format!("tfo-t{}-inputs.fifo", std::process::id()));
    mkfifoat(CWD, &fifo, Mode::RUSR)?;
    let fifo = fifo.display().to_string();
    let refused = [
        ("/dev/zero", "a device"),
        (&fifo, "a FIFO"),
        ("/", "a directory"),
    ]
    .into_iter()
    .try_for_each(|(path, kind)| {
        let authorities = KeyFile::new(&format!(
            "interfaces = [\"a0\"]\n[farm]\nendpoints = [\"https://127.0.0.1:2379\"]\nca = \"{path}\"\n"
        ))?;
        for arguments in [
            &["policy", "set", "--deny", path][..],
            &["policy", "set", "--file", path],
            &["keys", "set", "--file", path],
            &["run", "-c", path],
            &["farm", "-c", path, "status"],
            &["farm", "-c", authorities.path(), "status"],
            &[
                "run",
                "-i",
                "a0",
                "--key-source",
                "secret",
                "--key-file",
                path,
            ],
        ] {
            let output = tfo.run(arguments)?;
            let parts = [path, kind, "not a regular file: name a regular file"];
            output.ensure_refused(&parts)?;
        }
        Ok::<_, anyhow::Error>(())
    });
    fs::remove_file(&fifo)?;
    refused?;
    let bytes = KeyFile::new("")?;
    fs::write(bytes.path(), b"192.0.2.0/24\n\xff\n")?;
    let output = tfo.run(&["policy", "set", "--deny", bytes.path()])?;
    output.ensure_refused(&[bytes.path(), "line 2 is not UTF-8 text"])
}

#[test]
fn a_file_that_is_no_namespace_is_told() -> Result<()> {
    for path in ["/etc/passwd", "/dev/zero", "/proc/self/ns/mnt"] {
        let mut command = Command::new(tfo::binary());
        let output = process::output(command.args(["status", "--netns", path]), LIMIT)?;
        output.ensure_refused(&[path, "is no network namespace", "ip netns list"])?;
    }
    Ok(())
}

#[test]
fn output_that_cannot_be_written_is_told_with_its_cause() -> Result<()> {
    let (netns, tfo) = two_interfaces()?;
    tfo.done(&["attach", "a0"])?;
    let netns = netns.name();
    for command in ["stats", "status --json", "stats --watch 1"] {
        let script = format!(
            "exec {} {command} --netns {netns} >/dev/full",
            tfo::binary().display()
        );
        let output = process::output(Command::new("sh").args(["-c", &script]), LIMIT)?;
        output.ensure_refused(&["standard output", "No space left", "free space"])?;
    }
    Ok(())
}

#[test]
fn a_reader_that_goes_ends_what_is_watched() -> Result<()> {
    let (netns, tfo) = two_interfaces()?;
    tfo.done(&["attach", "a0"])?;
    let (tfo, netns) = (tfo::binary().display().to_string(), netns.name());
    let script = format!("{tfo} stats --watch 86400 --netns {netns} | head -1");
    let output = process::output(Command::new("sh").args(["-c", &script]), LIMIT)?;
    ensure!(
        output.status.success() && output.stderr.is_empty(),
        "{output:#?}"
    );
    Ok(())
}

#[test]
fn nothing_attached_is_shown_alike() -> Result<()> {
    let (_netns, tfo) = two_interfaces()?;
    for command in ["policy", "guard"] {
        ensure!(tfo.json(&[command, "show"])? == json!({ "in_force": false }));
        let text = tfo.done(&[command, "show"])?;
        ensure!(text.starts_with(&format!("no {command}: ")), "{text}");
    }
    Ok(())
}

#[test]
fn flags_without_effect_are_refused() -> Result<()> {
    let (_netns, tfo) = two_interfaces()?;
    let run = |more: &[&str]| tfo.run(&[&["run", "-i", NOWHERE], more].concat());
    ensure_usage(&tfo.run(&["run"])?, &["-i", "-c"])?;
    ensure_usage(&run(&["--port", "80"])?, &["--port", "--metrics"])?;
    ensure_usage(
        &run(&["--key-file", "/k"])?,
        &["--key-file", "--key-source file"],
    )?;
    ensure_usage(&run(&["--key-source", "file"])?, &["give its path"])?;
    let kernel = ["--key-source", "kernel"];
    let interval = run(&[&kernel[..], &["--interval", "1h"]].concat())?;
    // As of the file.
    let unused = "nothing uses this interval: with key source \"kernel\"";
    ensure_usage(&interval, &[unused, "remove the interval"])?;
    let foreign = run(&[&kernel[..], &["--on-foreign-change", "follow"]].concat())?;
    ensure_usage(&foreign, &["--on-foreign-change"])?;
    let prefix = run(&["--max-sources", "0", "--source-prefix-v4", "8"])?;
    ensure_usage(&prefix, &["--source-prefix-v4", "--max-sources 0"])?;
    for (arguments, part) in [
        (&["policy", "set"][..], "nothing to set"),
        (&["policy", "set", "--port", "1"], "--port goes with"),
        (&["policy", "set", "--data", "reissue"], "--data"),
        (&["guard", "set", "--port", "1"], "--port goes with"),
        (
            &["guard", "set"],
            "nothing to set: give on, off or auto, or a rate",
        ),
        (&["stats", "--top", "5"], "--top goes with"),
        (&["stats", "--by", "size", "--top", "5"], "--top goes with"),
        (&["stats", "--by", "source", "--top", "0"], "--top"),
        (&["guard", "set", "--above", "0/s"], "both are at least 1"),
        (
            &[
                "attach",
                "a0",
                "--max-sources",
                "0",
                "--source-prefix-v6",
                "8",
            ],
            "--max-sources 0",
        ),
    ] {
        ensure_usage(&tfo.run(arguments)?, &[part])?;
    }
    Ok(())
}

#[test]
fn a_missing_interface_is_logged_once() -> Result<()> {
    let (_netns, tfo) = two_interfaces()?;
    let mut service = tfo.start(&["run", "-i", "a0", "-i", NOWHERE, "--detach-on-exit"])?;
    let line = format!("{NOWHERE}: no such interface yet");
    service.wait_for_text(&line, LIMIT)?;
    let output = service.terminate(LIMIT)?;
    let told = output.stderr.lines().filter(|line| line.contains(NOWHERE));
    ensure!(told.count() == 1, "{output:#?}");
    Ok(())
}

#[test]
fn what_killed_controllers_left_is_removed() -> Result<()> {
    let (_netns, tfo) = two_interfaces()?;
    let own = u64::MAX - u64::from(std::process::id());
    fs::create_dir_all("/run/tfo")?;
    let left = ["lock", "farm", "farm.next"].map(|kind| format!("/run/tfo/net{own}.{kind}"));
    for file in &left {
        fs::write(file, "1\n")?;
    }
    tfo.done(&["detach", "--all"])?;
    for file in &left {
        ensure!(!fs::exists(file)?, "{file}");
    }
    Ok(())
}

#[test]
fn the_version_is_that_of_the_build() -> Result<()> {
    let (_netns, tfo) = two_interfaces()?;
    let version = process::succeed(Command::new(tfo::binary()).arg("--version"), LIMIT)?;
    let build = &tfo.json(&["status"])?["build"];
    let digest = build["object"].as_str().and_then(|it| it.get(..8));
    let version_only = build["version"].as_str();
    ensure!(digest.is_some() && version_only.is_some(), "{build}");
    let expected = format!(
        "tfo {} ({})\n",
        version_only.unwrap_or_default(),
        digest.unwrap_or_default()
    );
    ensure!(version == expected, "{version}");
    Ok(())
}
