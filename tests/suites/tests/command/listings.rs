//! What every command that lists has in common: a reader that goes, and the form of its JSON.

use std::{collections::BTreeSet, process::Command};

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_common::counters::Counter;
use tfo_testbed::{
    poll::eventually,
    process::{self, piped},
    raw::{RawClient, RawSyn},
    socket::{Listener, Method},
    testbed::Testbed,
    tfo::{self, LIMIT},
    veth::{Family, server_port},
};

/// Commands that list, all of which take `--json`.
const LISTINGS: [&[&str]; 16] = [
    &["status"],
    &["status", "-v"],
    &["stats"],
    &["stats", "--all"],
    &["stats", "--check"],
    &["stats", "--by", "port"],
    &["stats", "--by", "source"],
    &["stats", "--by", "size"],
    &["listeners"],
    &["keys", "show"],
    &["policy", "show"],
    &["policy", "withheld"],
    &["guard", "show"],
    &["cookies", "show"],
    &["doctor"],
    &["top", "--count", "1"],
];

/// What `tfo events` says at its end.
const NO_EVENTS: &str = "tfo: 0 events, none lost\n";

/// A host with a policy, a guard, own cookies, a listener and a connection.
fn busy() -> Result<(Testbed, Listener)> {
    let testbed = Testbed::new()?;
    for set in [
        &["policy", "set", "--bad", "drop", "--port", "443"][..],
        &["guard", "set", "auto", "--port", "443"],
        &["guard", "set", "auto"],
        &["cookies", "set"],
    ] {
        testbed.tfo.done(set)?;
    }
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    Ok((testbed, listener))
}

fn with_json(command: &[&'static str]) -> Vec<&'static str> {
    [command, &["--json"]].concat()
}

/// `head` reads one line, `:` none; then nobody has the pipe.
#[test]
fn a_reader_that_goes_ends_every_listing() -> Result<()> {
    let (testbed, _listener) = busy()?;
    let top = |command: &[&str]| command[0] == "top";
    let text = LISTINGS.iter().filter(|it| !top(it)).map(|it| it.to_vec());
    let more = [
        &["--help"][..],
        &["stats", "--watch", "86400"],
        &["top", "--json"],
        &["events"],
        &["events", "--json"],
    ];
    let commands = text
        .chain(LISTINGS.map(with_json))
        .chain(more.map(<[_]>::to_vec));
    for arguments in commands {
        for reader in [":", "head -1"] {
            // No event comes for a first line.
            if arguments[0] == "events" && reader != ":" {
                continue;
            }
            let mut command = Command::new(tfo::binary());
            command.args(&arguments);
            command.args(["--netns", testbed.pair.server.name()]);
            let output = process::output(&mut piped(&command, reader), LIMIT)?;
            // A check may have found something.
            let status = output.status.code();
            let said = output.stderr.as_str();
            ensure!(
                matches!(status, Some(0 | 3)) && ["", NO_EVENTS].contains(&said),
                "{arguments:?} | {reader}: {output:#?}"
            );
            let lines = usize::from(reader != ":");
            ensure!(output.stdout.lines().count() == lines, "{output:#?}");
        }
    }
    Ok(())
}

/// Names of ports in an object that are no numbers; adds the number of those that are to `numbers`.
fn wrong_ports(value: &Value, numbers: &mut usize) -> Vec<String> {
    match value {
        Value::Object(members) => {
            let mut wrong = Vec::new();
            for (name, value) in members {
                let is_port = name == "port" || name.ends_with("_port");
                match value {
                    Value::Number(_) if is_port => *numbers += 1,
                    Value::String(text) if is_port => wrong.push(format!("{name}: {text:?}")),
                    _ => wrong.extend(wrong_ports(value, numbers)),
                }
            }
            wrong
        }
        Value::Array(values) => {
            let all = values.iter().map(|value| wrong_ports(value, numbers));
            all.collect::<Vec<_>>().concat()
        }
        _ => Vec::new(),
    }
}

#[test]
fn ports_in_json_are_numbers() -> Result<()> {
    let (testbed, listener) = busy()?;
    let events = testbed.tfo.start(&["events", "--json", "--count", "1"])?;
    let mut outputs = Vec::new();
    for command in LISTINGS {
        let output = testbed.tfo.run(&with_json(command))?;
        outputs.push((command.join(" "), output.stdout));
    }
    let mut events = events;
    eventually("an event", LIMIT, || {
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        Ok(!events.is_running()?)
    })?;
    outputs.push(("events".to_owned(), events.wait(LIMIT)?.stdout));
    let mut found = BTreeSet::new();
    for (command, output) in &outputs {
        let value: Value = serde_json::from_str(output).with_context(|| command.clone())?;
        let mut numbers = 0;
        let wrong = wrong_ports(&value, &mut numbers);
        ensure!(wrong.is_empty(), "{command}: {wrong:?} in {value:#}");
        if numbers > 0 {
            found.insert(command.as_str());
        }
    }
    let expected = ["events", "guard show", "listeners"];
    ensure!(found == expected.into(), "{found:?}");
    Ok(())
}

/// Zeros included: a script finds each counter under its name.
#[test]
fn json_has_every_counter() -> Result<()> {
    let testbed = Testbed::new()?;
    let names = |all: &[Counter]| -> BTreeSet<String> {
        all.iter().map(|it| it.name().to_owned()).collect()
    };
    let (all, mirrored) = (names(&Counter::ALL), names(&Counter::MIRRORED));
    for traffic in [false, true] {
        if traffic {
            let closed = server_port(Family::V4, 1);
            let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
            client.send(closed, &RawSyn::fast_open(34, &[], &[]))?;
        }
        let stats = testbed.tfo.json(&["stats"])?;
        for (object, expected) in [
            ("counters", &all),
            ("kernel", &mirrored),
            ("drift", &mirrored),
        ] {
            let members = stats[object].as_object().context("no object")?;
            let found: BTreeSet<String> = members.keys().cloned().collect();
            ensure!(found == *expected, "{object}: {stats:#}");
            ensure!(members.values().all(Value::is_i64), "{object}: {stats:#}");
        }
        let counted = stats["counters"]["Syns"].as_u64();
        ensure!(counted == Some(traffic.into()), "{stats:#}");
        let zeros = stats["counters"].as_object().context("no counters")?;
        let zeros = zeros.values().filter(|it| **it == 0).count();
        ensure!(zeros + 2 >= all.len(), "{stats:#}");
    }
    Ok(())
}
