//! `tfo stats` and `tfo status` on real connections.

use std::{
    collections::BTreeSet,
    io::{BufRead as _, BufReader, Lines},
    process::{Child, ChildStdout, Command, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_common::abi::{OF_INTERFACE, OF_NAMESPACE};
use tfo_testbed::{
    poll::wait_for,
    process::{Output, ensure_says},
    raw::{Answer, RawClient, RawSyn},
    socket::{Listener, Method},
    testbed::{REQUEST, Testbed},
    tfo,
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};

const LIMIT: Duration = Duration::from_secs(20);

/// Makes one connection that requests a cookie, and two that use it.
fn ask_and_use_twice(testbed: &Testbed, listener: &Listener, family: Family) -> Result<()> {
    testbed.request_cookie(listener, family)?;
    for _ in 0..2 {
        testbed.in_syn(listener, family, Method::SendTo)?;
    }
    Ok(())
}

#[test]
fn sizes_and_sources_of_real_connections() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V6)?;
    for family in Family::BOTH {
        ask_and_use_twice(&testbed, &listener, family)?;
    }
    let stats = testbed.tfo.json(&["stats", "--by", "size"])?;
    let bucket = 1_u64 << REQUEST.len().ilog2();
    let expected = json!({ "from": bucket, "to": 2 * bucket - 1, "count": 4 });
    ensure!(stats["sizes"] == json!([expected]), "{stats}");
    let all = testbed.tfo.json(&["stats", "--by", "size", "--all"])?;
    let sizes = all["sizes"].as_array().context("no sizes")?;
    ensure!(sizes.len() == 16 && sizes.contains(&expected), "{all}");
    let text = testbed.tfo.done(&["stats", "--by", "size"])?;
    ensure!(text == "bytes  SYNs\n16-31     4\n", "{text}");

    let stats = testbed.tfo.json(&["stats", "--by", "source"])?;
    let row = |source: &str| {
        json!({
            "source": source, "uses": 2, "failures": 0, "requests": 1, "syns": 3,
            "asks_without_using": false,
        })
    };
    let (v4, v6) = (Family::V4.client(), Family::V6.client());
    let expected = json!([row(&format!("{v4}/32")), row("fd77::/64")]);
    ensure!(stats["sources"] == expected, "{stats}, {v6}");
    ensure!(stats["ask_without_using"] == 0, "{stats}");
    let stats = testbed
        .tfo
        .json(&["stats", "--by", "source", "--top", "1"])?;
    ensure!(stats["sources"] == json!([expected[0]]), "{stats}");
    let text = testbed.tfo.done(&["stats", "--by", "source"])?;
    ensure!(text.contains("fd77::/64"), "{text}");
    Ok(())
}

#[test]
fn sources_are_kept_as_they_were_asked_for_at_attach() -> Result<()> {
    let lengths = ["--source-prefix-v4", "24", "--source-prefix-v6", "48"];
    let testbed = Testbed::attach(Pair::new()?, &lengths)?;
    let listener = testbed.listen(Family::V6)?;
    for family in Family::BOTH {
        ask_and_use_twice(&testbed, &listener, family)?;
    }
    let stats = testbed.tfo.json(&["stats", "--by", "source"])?;
    let prefix = |at: usize| stats["sources"][at]["source"].clone();
    ensure!((prefix(0), prefix(1)) == (json!("10.77.0.0/24"), json!("fd77::/48")));

    let testbed = Testbed::attach(Pair::new()?, &["--max-sources", "0"])?;
    let listener = testbed.listen(Family::V4)?;
    ask_and_use_twice(&testbed, &listener, Family::V4)?;
    let stats = testbed.tfo.json(&["stats", "--by", "source"])?;
    ensure!(stats["sources"] == json!([]), "{stats}");
    ensure!(stats["counters"]["TCPFastOpenPassive"] == 2, "{stats}");
    Ok(())
}

/// A client whose path strips cookies requests one at every connection.
#[test]
fn who_asks_and_never_uses_is_counted() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    let server = server_port(Family::V4, listener.port());
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    for asked in 1..=4 {
        let answer = client.send(server, &RawSyn::fast_open(34, &[], &[]))?;
        let brought = matches!(
            answer,
            Answer::SynAck {
                cookie: Some(_),
                ..
            }
        );
        ensure!(brought, "{answer:?}");
        let stats = testbed.tfo.json(&["stats"])?;
        ensure!(
            stats["ask_without_using"] == u64::from(asked >= 3),
            "{stats}"
        );
    }
    let text = testbed.tfo.done(&["stats"])?;
    ensure!(
        text.contains("ask without using: 1 source was given 3 cookies or more"),
        "{text}"
    );
    Ok(())
}

#[test]
fn stats_tell_why_fast_open_was_not_used() -> Result<()> {
    let testbed = Testbed::new()?;
    let closed = server_port(Family::V4, 1);
    let text = testbed.tfo.done(&["stats"])?;
    let nothing = "Fast Open: no SYN has used it\n\nno SYN yet (--all shows every counter)\n";
    ensure!(text == nothing, "{text}");
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    client.send(closed, &RawSyn::fast_open(34, &[], &[]))?;
    let text = testbed.tfo.done(&["stats"])?;
    let expected = "\
Fast Open: 0 of 1 SYNs had their data taken (0.0 %)
not taken:
  1  100.0 %  nothing listens there (ReasonNoListener)

counter  tfo  kernel  drift
Syns       1
";
    ensure!(text == expected, "{text}");
    let all = testbed.tfo.done(&["stats", "--all"])?;
    ensure!(
        all.contains("GuardUnanswered") && all.contains("TCPFastOpenListenOverflow"),
        "{all}"
    );
    let by_port = testbed.tfo.done(&["stats", "--by", "port"])?;
    ensure!(by_port.lines().count() == 2, "{by_port}");
    Ok(())
}

#[test]
fn the_share_of_data_taken_comes_first() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    ask_and_use_twice(&testbed, &listener, Family::V4)?;
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    let server = server_port(Family::V4, listener.port());
    client.send(server, &RawSyn::fast_open(34, &[7; 8], b"abc"))?;
    let text = testbed.tfo.done(&["stats"])?;
    let expected =
        "Fast Open: 2 of 3 SYNs had their data taken (66.7 %)\nnot taken:\n  1  33.3 %  ";
    ensure!(text.starts_with(expected), "{text}");
    let share = &testbed.tfo.json(&["stats"])?["fast_open"];
    ensure!(
        share["attempts"] == 3
            && share["taken"] == 2
            && share["not_taken"] == 1
            && share["cookie_requests"] == 1
            && share["reasons"][0]["reason"] == "bad-cookie",
        "{share}"
    );
    Ok(())
}

/// A running `tfo stats --watch`. It is killed on drop.
struct Watching {
    child: Child,
    /// `None` once the reader's end of the pipe is closed.
    lines: Option<Lines<BufReader<ChildStdout>>>,
}

impl Watching {
    fn start(testbed: &Testbed, seconds: &str) -> Result<Self> {
        let mut child = Command::new(tfo::binary())
            .args(["stats", "--watch", seconds])
            .args(["--netns", testbed.pair.server.name()])
            .stdout(Stdio::piped())
            .spawn()?;
        let lines = BufReader::new(child.stdout.take().context("no stdout")?).lines();
        Ok(Self {
            child,
            lines: Some(lines),
        })
    }

    fn line(&mut self) -> Result<String> {
        let line = self.lines.as_mut().and_then(Iterator::next);
        Ok(line.context("no line")??)
    }
}

impl Drop for Watching {
    fn drop(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

#[test]
fn watching_tells_the_time_and_rates() -> Result<()> {
    let testbed = Testbed::new()?;
    let mut watching = Watching::start(&testbed, "1")?;
    let time = watching.line()?;
    ensure!(time.ends_with('Z') && time.contains('T'), "{time}");
    let figure = watching.line()?;
    ensure!(figure.starts_with("Fast Open: "), "{figure}");
    // The first block has no rates, the second does.
    while !watching.line()?.starts_with("in the last ") {}
    let refused = testbed.tfo.run(&["stats", "--watch", "1", "--json"])?;
    ensure!(refused.status.code() == Some(2), "{refused:?}");
    Ok(())
}

/// The watcher ends even if its next output is a day away.
#[test]
fn watching_ends_with_its_reader() -> Result<()> {
    let testbed = Testbed::new()?;
    let mut watching = Watching::start(&testbed, "86400")?;
    watching.line()?;
    // Closes the reader's end of the pipe.
    watching.lines = None;
    let ended = || Ok(watching.child.try_wait()?);
    let status = wait_for("tfo ends with its reader", LIMIT, ended)?;
    ensure!(status.success(), "{status}");
    Ok(())
}

#[test]
fn check_ends_with_3_where_there_is_drift() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let check = |arguments: &[&str]| {
        testbed
            .tfo
            .run(&[&["stats", "--check"], arguments].concat())
    };
    let ended = |output: &Output, code| output.status.code() == Some(code);
    let output = check(&[])?;
    ensure!(
        ended(&output, 0) && output.stdout.starts_with("no drift"),
        "{output:?}"
    );
    let output = check(&["--json"])?;
    ensure!(ended(&output, 0), "{output:?}");

    // From the packet alone, a missing listener cannot be known.
    testbed.tfo.done(&["detach", "--all"])?;
    let packet = ["attach", SERVER_INTERFACE, "--mirror", "packet"];
    testbed.tfo.done(&packet)?;
    let closed = server_port(Family::V4, 1);
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    client.send(closed, &RawSyn::fast_open(34, &[], &[]))?;
    let output = check(&[])?;
    ensure!(
        ended(&output, 3)
            && output
                .stdout
                .starts_with("TCPFastOpenCookieReqd: tfo 1, kernel 0, drift 1\n")
            && output.stderr.is_empty(),
        "{output:?}"
    );
    // The likely causes, and where all are.
    let parts = ["more than the kernel: ", "the mirror is packet", "#drift"];
    ensure_says(&output.stdout, &parts)?;
    let output = check(&["--json"])?;
    let value: Value = serde_json::from_str(&output.stdout)?;
    let drifting = json!(["TCPFastOpenCookieReqd"]);
    ensure!(
        ended(&output, 3) && value["drifting"] == drifting,
        "{value}"
    );
    Ok(())
}

/// Maps that the controller keeps beside those of the data path.
const OF_CONTROLLER: [&str; 5] = ["accepted", "info", "primary_since", "state", "tail_calls"];

#[test]
fn status_tells_the_memory_of_the_maps() -> Result<()> {
    let testbed = Testbed::new()?;
    let status = testbed.tfo.json(&["status"])?;
    let memory = &status["memory"];
    let maps = memory["maps"].as_object().context("no maps")?;
    let bytes = |name: &str| maps.get(name).and_then(Value::as_u64).unwrap_or(0);
    ensure!(bytes("port_slots") >= 512 << 10, "{status}");
    ensure!(bytes("sources") >= 16_384 * 48, "{status}");
    ensure!(bytes("events") >= 256 << 10, "{status}");
    let names: BTreeSet<_> = maps.keys().cloned().collect();
    let of_data_path = OF_NAMESPACE.iter().chain(&OF_INTERFACE);
    let mut expected: BTreeSet<_> = of_data_path.map(|name| name.to_lowercase()).collect();
    expected.extend(OF_CONTROLLER.map(str::to_owned));
    ensure!(names == expected, "{names:?}");
    let empty: Vec<_> = maps
        .iter()
        // An empty trie has none.
        .filter(|(name, bytes)| *name != "guard_edges" && bytes.as_u64() == Some(0))
        .collect();
    ensure!(empty.is_empty(), "no bytes: {empty:?}");
    let sum: u64 = maps.keys().map(|name| bytes(name)).sum();
    ensure!(memory["total"] == sum, "{status}");
    let text = testbed.tfo.done(&["status"])?;
    ensure!(
        !text.contains("port_slots") && text.contains("\ndrift: none\n"),
        "{text}"
    );
    let text = testbed.tfo.done(&["status", "-v"])?;
    ensure!(
        text.contains("\nport_slots ") && text.contains("\ntotal "),
        "{text}"
    );
    Ok(())
}
