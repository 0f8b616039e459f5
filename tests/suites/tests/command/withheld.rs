//! `tfo policy set --withhold`, `tfo policy withheld`: what they show, and what comes and goes with the rule.

use std::{fs, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_common::policy::withhold::SourceMemory;
use tfo_testbed::{
    pins,
    poll::eventually,
    process::{self, ensure_says},
    socket::Method,
    testbed::Testbed,
    tfo::LIMIT,
    veth::{Family, SERVER_INTERFACE},
};

/// The pin of the namespace's program at the tracepoint of socket states, and the program's number; `None` where none is
/// attached.
fn learner(testbed: &Testbed) -> Result<Option<u64>> {
    let pin = pins::directory_of(&testbed.pair.server)?.join("handshakes");
    if !pin.exists() {
        return Ok(None);
    }
    let pin = pin.to_str().context("the path is no text")?;
    let link = bpftool(&["link", "show", "pinned", pin])?;
    Ok(link["prog_id"].as_u64())
}

/// `true` if the kernel has no program of this number any more.
fn is_gone(program: u64) -> Result<bool> {
    let programs = bpftool(&["prog", "show"])?;
    let mut all = programs.as_array().into_iter().flatten();
    Ok(all.all(|each| each["id"] != program))
}

fn bpftool(arguments: &[&str]) -> Result<Value> {
    let mut command = Command::new("bpftool");
    let shown = process::succeed(command.arg("--json").args(arguments), LIMIT)?;
    Ok(serde_json::from_str(&shown)?)
}

#[test]
fn the_rule_is_shown_and_ends_with_all_that_it_needs() -> Result<()> {
    let testbed = Testbed::new()?;
    let set = |flags: &[&str]| testbed.tfo.done(&[&["policy", "set"][..], flags].concat());
    let none = testbed.tfo.done(&["policy", "withheld"])?;
    ensure_says(&none, &["no rule withholds cookies", "--withhold 1d"])?;
    let said = set(&["--port", "443", "--withhold", "1d", "--prefix-v6", "56"])?;
    ensure_says(&said, &["withhold: 443 for 1d; sources by /32 and /56"])?;
    let shown = testbed.tfo.json(&["policy", "show"])?;
    ensure!(
        shown["ports"]["443"]["withhold_seconds"] == 86_400,
        "{shown}"
    );
    ensure!(shown["default"]["withhold_seconds"] == 0, "{shown}");
    let none = testbed.tfo.done(&["policy", "withheld"])?;
    ensure!(none == "cookies are withheld from no source\n", "{none}");
    let memory = |name: &str| -> Result<u64> {
        let status = testbed.tfo.json(&["status"])?;
        Ok(status["memory"]["maps"][name].as_u64().unwrap_or(0))
    };
    ensure!(memory("source_memory_in_force")? > 1 << 20);
    set(&["--port", "443", "--withhold", "off"])?;
    ensure!(memory("source_memory_in_force")? == 0);
    let shown = testbed.tfo.done(&["policy", "show"])?;
    ensure!(!shown.contains("withhold"), "{shown}");
    Ok(())
}

/// The program sees all sockets of the host: it goes with the rule, with the policy and with the last interface.
#[test]
fn the_program_comes_and_goes_with_the_rule() -> Result<()> {
    let testbed = Testbed::new()?;
    let ends: [&[&str]; 3] = [
        &["policy", "set", "--withhold", "off"],
        &["policy", "clear"],
        &["detach", SERVER_INTERFACE],
    ];
    for end in ends {
        ensure!(learner(&testbed)?.is_none(), "before {end:?}");
        testbed.tfo.done(&["policy", "set", "--withhold", "1h"])?;
        let program = learner(&testbed)?.context("not attached")?;
        // Another rule does not need another program, but may have one.
        testbed
            .tfo
            .done(&["policy", "set", "--port", "80", "--withhold", "2h"])?;
        testbed.tfo.done(&["policy", "clear", "--port", "80"])?;
        let present = learner(&testbed)?.context("not attached")?;
        testbed.tfo.done(end)?;
        ensure!(learner(&testbed)?.is_none(), "after {end:?}");
        for program in [program, present] {
            eventually("the program is gone", LIMIT, || is_gone(program))?;
        }
    }
    Ok(())
}

/// A source by its prefix, in text and in JSON; and what `--forget` does with one that is not there.
#[test]
fn sources_are_listed_and_forgotten() -> Result<()> {
    let testbed = Testbed::new()?;
    let family = Family::V4;
    let listener = testbed.listen(family)?;
    let flags = ["policy", "set", "--withhold", "2h", "--prefix-v4", "24"];
    testbed.tfo.done(&flags)?;
    testbed.request_cookie(&listener, family)?;
    let all = testbed.tfo.json(&["policy", "withheld", "--all"])?;
    let source = &all["sources"][0];
    ensure!(source["source"] == "10.77.0.0/24", "{all}");
    ensure!(source["given"] == 1 && source["cause"].is_null(), "{all}");
    for _ in 0..SourceMemory::PLAIN {
        testbed.exchange(&listener, family, Method::Plain)?;
    }
    let listed = testbed.tfo.done(&["policy", "withheld"])?;
    ensure_says(&listed, &["10.77.0.0/24", "min", "never"])?;
    let json = testbed.tfo.json(&["policy", "withheld"])?;
    let source = &json["sources"][0];
    let left = source["seconds_left"].as_u64().unwrap_or(0);
    ensure!(
        source["cause"] == "no-cookie" && (1..=7200).contains(&left),
        "{json}"
    );
    for prefix in ["10.78.0.0/16", "fd77::/16"] {
        let refused = testbed
            .tfo
            .run(&["policy", "withheld", "--forget", prefix])?;
        ensure!(refused.status.code() == Some(1), "{refused:?}");
        ensure_says(&refused.stderr, &[prefix, "withheld --all"])?;
    }
    // One of both has no source.
    let both = [
        "policy",
        "withheld",
        "--forget",
        "::/0",
        "--forget",
        "0.0.0.0/0",
    ];
    let said = testbed.tfo.run(&both)?;
    ensure!(
        said.stdout == "cookies are withheld from no source\n",
        "{said:?}"
    );
    ensure_says(&said.stderr, &["warning", "::/0"])?;
    let all = testbed.tfo.json(&["policy", "withheld", "--all"])?;
    ensure!(
        all["sources"].as_array().is_some_and(Vec::is_empty),
        "{all}"
    );
    Ok(())
}

#[test]
fn times_that_are_none_are_refused() -> Result<()> {
    let testbed = Testbed::new()?;
    for time in ["0", "1", "never", "1w", ""] {
        let refused = testbed.tfo.run(&["policy", "set", "--withhold", time])?;
        ensure!(refused.status.code() == Some(2), "{refused:?}");
        ensure_says(&refused.stderr, &["--withhold"])?;
    }
    testbed
        .pair
        .server
        .set_sysctl("net.ipv4.tcp_fastopen", "0x203")?;
    let refused = testbed.tfo.run(&["policy", "set", "--withhold", "1d"])?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    ensure_says(&refused.stderr, &["0x200"])
}

/// A process that was killed after it had put a policy in force, and before its pins had their names.
#[test]
fn a_policy_whose_pins_have_no_names_yet_is_read_and_replaced() -> Result<()> {
    let testbed = Testbed::new()?;
    let set = ["policy", "set", "--port", "443", "--withhold", "1h"];
    let directory = pins::directory_of(&testbed.pair.server)?;
    let ends: [&[&str]; 2] = [&["policy", "clear"], &set];
    for end in ends {
        testbed.tfo.done(&set)?;
        for map in [
            "policy_rules",
            "policy_lists",
            "policy_limits",
            "source_memory",
        ] {
            let pin = |end: &str| directory.join(format!("{map}_{end}"));
            fs::rename(pin("in_force"), pin("next"))?;
        }
        let shown = testbed.tfo.json(&["policy", "show"])?;
        ensure!(shown["ports"]["443"]["withhold_seconds"] == 3600, "{shown}");
        testbed.tfo.done(&["policy", "withheld"])?;
        testbed.tfo.done(end)?;
        testbed.tfo.done(&["policy", "clear"])?;
        let names = fs::read_dir(&directory)?.map(|entry| Ok(entry?.file_name()));
        let names: Vec<_> = names.collect::<std::io::Result<_>>()?;
        let unfinished = |name: &std::ffi::OsString| name.to_string_lossy().ends_with("_next");
        ensure!(!names.iter().any(unfinished), "{names:?}");
    }
    Ok(())
}
