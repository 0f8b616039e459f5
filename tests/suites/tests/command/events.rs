//! `tfo events` on real connections.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{
    poll::{eventually, wait_for},
    process::{Background, Output},
    raw::{RawClient, RawSyn},
    socket::{Listener, Method},
    testbed::{REQUEST, Testbed},
    veth::{Family, SERVER_INTERFACE, server_port},
};

const LIMIT: Duration = Duration::from_secs(20);

/// Starts an event reader, and waits until it has printed a connection.
fn reading(testbed: &Testbed, listener: &Listener) -> Result<Background> {
    let mut reader = testbed.tfo.start(&["events"])?;
    eventually("it tells of a connection", LIMIT, || {
        ensure!(reader.is_running()?, "tfo ended: {:?}", reader.written());
        testbed.exchange(listener, Family::V4, Method::SendTo)?;
        let [told, _] = reader.written();
        Ok(!told.is_empty())
    })?;
    Ok(reader)
}

/// Opens connections until `reader` has ended.
fn feed(testbed: &Testbed, listener: &Listener, mut reader: Background) -> Result<Output> {
    eventually("the reader has seen enough", LIMIT, || {
        testbed.exchange(listener, Family::V4, Method::SendTo)?;
        Ok(!reader.is_running()?)
    })?;
    reader.wait(LIMIT)
}

#[test]
fn events_tell_single_syns() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let reader = testbed.tfo.start(&["events", "--json", "--count", "3"])?;
    let output = feed(&testbed, &listener, reader)?;
    ensure!(output.status.success(), "{output:?}");
    let lines: Vec<&str> = output.stdout.lines().collect();
    ensure!(lines.len() == 3, "{output:?}");
    for line in lines {
        let event: Value = serde_json::from_str(line)?;
        ensure!(
            event["source"] == json!(Family::V4.client())
                && event["destination"] == json!(server_port(Family::V4, 1).ip())
                && event["destination_port"] == listener.port()
                && event["data_len"] == REQUEST.len()
                && event["event"] == "syn"
                && event["outcome"] == "primary cookie"
                && event["reason"].is_null()
                && event["time"]
                    .as_str()
                    .is_some_and(|time| time.ends_with('Z')),
            "{event}"
        );
    }
    ensure!(output.stderr == "tfo: 3 events, none lost\n", "{output:?}");

    // Text output, and filters.
    let closed = server_port(Family::V4, 1);
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    let filters = ["--port", "1", "--reason", "no-listener", "--count", "1"];
    let mut reader = testbed.tfo.start(&[&["events"][..], &filters].concat())?;
    eventually("the reader has its event", LIMIT, || {
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        client.send(closed, &RawSyn::fast_open(34, &[], b"abc"))?;
        Ok(!reader.is_running()?)
    })?;
    let output = reader.wait(LIMIT)?;
    let line = output.stdout.lines().next().context("no line")?;
    ensure!(
        output.stdout.lines().count() == 1
            && line.ends_with(&format!(
                " > {closed}  3 bytes  no listener: nothing listens there"
            )),
        "{output:?}"
    );
    ensure!(testbed.tfo.json(&["stats"])?["events_lost"] == 0);
    Ok(())
}

/// The kind of an own cookie is shown, and filtered by.
#[test]
fn events_tell_own_cookies() -> Result<()> {
    let testbed = Testbed::new()?;
    testbed.tfo.done(&["cookies", "set"])?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let server = server_port(Family::V4, listener.port());
    let mut stranger = RawClient::new(&testbed.pair, Family::V4, 0)?;
    let mut read = |more: &[&str]| -> Result<Output> {
        let filter = ["events", "--own-cookie", "young", "--count", "2"];
        let mut reader = testbed.tfo.start(&[&filter, more].concat())?;
        eventually("the reader has its events", LIMIT, || {
            stranger.send(server, &RawSyn::fast_open(34, &[7; 8], b"abc"))?;
            testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
            Ok(!reader.is_running()?)
        })?;
        reader.wait(LIMIT)
    };
    let output = read(&[])?;
    let client = format!("  {}:", Family::V4.client());
    let is_own = |line: &str| line.contains(&client) && line.contains(" (own cookie: young)");
    ensure!(
        output.stdout.lines().count() == 2 && output.stdout.lines().all(is_own),
        "{output:?}"
    );
    let output = read(&["--json"])?;
    for line in output.stdout.lines() {
        let event: Value = serde_json::from_str(line)?;
        ensure!(event["own_cookie"] == "young", "{event}");
    }
    let refused = testbed.tfo.run(&["events", "--own-cookie", "foreign"])?;
    ensure!(
        refused.status.code() == Some(2) && refused.stderr.contains("expired"),
        "{refused:?}"
    );
    Ok(())
}

/// Only one event reader is allowed; after a reader is killed, the next one can start.
#[test]
fn events_have_one_reader_at_a_time() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    // This reader never ends by itself: nothing listens on port 9.
    let start = || testbed.tfo.start(&["events", "--port", "9"]);
    let mut readers = [start()?, start()?];
    let refused = wait_for("one is refused", LIMIT, || {
        let running = [readers[0].is_running()?, readers[1].is_running()?];
        Ok(running.iter().position(|running| !running))
    })?;
    let [first, second] = readers;
    let (refused, reads) = if refused == 0 {
        (first, second)
    } else {
        (second, first)
    };
    let refused = refused.wait(LIMIT)?;
    ensure!(
        refused.status.code() == Some(1) && refused.stderr.contains("another `tfo events`"),
        "{refused:?}"
    );
    // Drop kills the reader.
    drop(reads);
    let reader = testbed.tfo.start(&["events", "--count", "1"])?;
    let output = feed(&testbed, &listener, reader)?;
    ensure!(output.status.success(), "{output:?}");

    // Detach ends the reader.
    let reader = reading(&testbed, &listener)?;
    testbed.tfo.done(&["detach", "--all"])?;
    let output = reader.wait(LIMIT)?;
    ensure!(
        output.status.code() == Some(1) && output.stderr.contains("detached meanwhile"),
        "{output:?}"
    );
    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;

    // SIGTERM ends the reader with success.
    let reader = reading(&testbed, &listener)?;
    let output = reader.terminate(LIMIT)?;
    ensure!(
        output.status.success() && output.stderr.ends_with(", none lost\n"),
        "{output:?}"
    );
    Ok(())
}
