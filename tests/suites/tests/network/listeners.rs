//! `tfo listeners` with every kind of listening socket.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{
    keys,
    netns::{Netns, wait_for_listener},
    process::Background,
    raw::{RawClient, RawSyn},
    testbed::Testbed,
    tfo::Tfo,
    veth::{Family, Pair, SERVER_INTERFACE},
};

/// Address family, address, port and options of each listener; the options are set before listen(2). The device is one that the
/// socket is bound to, and the protocol 0 for TCP.
const SOCKETS: &str = "
import socket, time
FASTOPEN, KEY, NO_COOKIE = 23, 33, 34
sockets = []
MPTCP = 262
def listen(family, address, port, options, backlog, device=b'', protocol=0):
    s = socket.socket(family, socket.SOCK_STREAM, protocol)
    if device:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_BINDTODEVICE, device)
    s.bind((address, port))
    for option, value in options:
        s.setsockopt(socket.IPPROTO_TCP, option, value)
    s.listen(backlog)
    sockets.append(s)
listen(socket.AF_INET, '127.0.0.1', 1001, [], 7)
listen(socket.AF_INET, '0.0.0.0', 1002, [(FASTOPEN, 16)], 8)
listen(socket.AF_INET, '0.0.0.0', 1003, [(FASTOPEN, 5), (KEY, b'k' * 16)], 9)
listen(socket.AF_INET6, '::', 1004, [(FASTOPEN, 5), (KEY, b'k' * 32)], 10)
listen(socket.AF_INET6, '::1', 1005, [(FASTOPEN, 5), (NO_COOKIE, 1)], 11)
listen(socket.AF_INET, '0.0.0.0', 1007, [], 14, b'server0')
listen(socket.AF_INET, '0.0.0.0', 1007, [(FASTOPEN, 6)], 15, b'vanishes0')
listen(socket.AF_INET6, '::', 1008, [(FASTOPEN, 7)], 16, b'server0', MPTCP)
listen(socket.AF_INET, '0.0.0.0', 1006, [(FASTOPEN, 0)], 12)
time.sleep(60)
";

fn start(netns: &Netns) -> Result<Background> {
    netns.configure(&["link add vanishes0 index 777 type veth peer name vanishes1"])?;
    let mut python = netns.command("python3");
    python.args(["-c", SOCKETS]);
    let python = Background::start(&mut python)?;
    wait_for_listener(netns, 1006)?;
    Ok(python)
}

/// The entry of `tfo listeners --json` for `port`.
fn shown(tfo: &Tfo, port: u16) -> Result<Value> {
    let value = tfo.json(&["listeners"])?;
    let listeners = value["listeners"].as_array().context("no listeners")?;
    let found = listeners.iter().find(|each| each["port"] == port);
    Ok(found
        .with_context(|| format!("no {port} in {value}"))?
        .clone())
}

#[test]
fn every_sort_of_listener_is_shown_as_it_is() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let _python = start(&pair.server)?;
    let row = |port, address, state, limit, keys, backlog| {
        json!({
            "port": port, "address": address, "fast_open": state, "limit": limit, "own_keys": keys,
            "queue": 0, "backlog": 0, "max_backlog": backlog, "uid": 0, "device": null, "device_index": null,
            "mptcp": false,
        })
    };
    // Listeners may differ by the device alone.
    let bound = |mut row: Value, device: &Value, index: &Value| {
        (row["device"], row["device_index"]) = (device.clone(), index.clone());
        row
    };
    let links = pair
        .server
        .ip(&["-json", "link", "show", SERVER_INTERFACE])?;
    let links: Value = serde_json::from_str(&links)?;
    let index = &links[0]["ifindex"];
    let server = json!(SERVER_INTERFACE);
    let mut multipath = bound(row(1008, "::", "on", 7, 0, 16), &server, index);
    multipath["mptcp"] = json!(true);
    let rows = |gone: Value| {
        json!([
            row(1001, "127.0.0.1", "off", 0, 0, 7),
            row(1002, "0.0.0.0", "on", 16, 0, 8),
            row(1003, "0.0.0.0", "on", 5, 1, 9),
            row(1004, "::", "on", 5, 2, 10),
            row(1005, "::1", "without-cookie", 5, 0, 11),
            row(1006, "0.0.0.0", "off", 0, 0, 12),
            bound(row(1007, "0.0.0.0", "off", 0, 0, 14), &server, index),
            bound(row(1007, "0.0.0.0", "on", 6, 0, 15), &gone, &json!(777)),
            multipath,
        ])
    };
    // The sockets of this namespace only, sorted. No program need be attached.
    let listed = tfo.json(&["listeners"])?["listeners"].take();
    ensure!(listed == rows(json!("vanishes0")), "{listed:#}");
    let text = tfo.done(&["listeners"])?;
    let shown = |row: &[&str]| {
        let words = |line: &str| {
            row.iter()
                .all(|word| line.split_whitespace().any(|it| it == *word))
        };
        text.lines().any(words)
    };
    for row in [
        &["[::1]:1005", "TCP", "cookie"][..],
        &["0.0.0.0%server0:1007", "TCP", "off"],
        &["0.0.0.0%vanishes0:1007", "TCP", "on"],
        &["[::]%server0:1008", "MPTCP", "on"],
    ] {
        ensure!(shown(row), "{row:?} in\n{text}");
    }
    // The socket stays bound to the index.
    pair.server.configure(&["link del vanishes0"])?;
    let listed = tfo.json(&["listeners"])?["listeners"].take();
    ensure!(listed == rows(Value::Null), "{listed:#}");
    let text = tfo.done(&["listeners"])?;
    ensure!(text.contains("0.0.0.0%if777:1007"), "{text}");
    Ok(())
}

/// `tfo doctor` names listeners with MPTCP, where the guard is limited, and the remedy.
#[test]
fn doctor_names_listeners_with_mptcp() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let _python = start(&pair.server)?;
    let output = tfo.run(&["doctor", "--json"])?;
    let found: Value = serde_json::from_str(&output.stdout)?;
    let findings = found["findings"].as_array().context("no findings")?;
    let finding = findings.iter().find(|each| each["check"] == "MPTCP");
    let finding = finding.with_context(|| format!("no finding: {found:#}"))?;
    let text = finding.to_string();
    let parts = ["[::]%server0:1008:", "GODEBUG=multipathtcp=0"];
    ensure!(parts.iter().all(|part| text.contains(part)), "{text}");
    ensure!(!text.contains("1007"), "{text}");
    Ok(())
}

#[test]
fn the_hosts_sysctl_is_part_of_it() -> Result<()> {
    let pair = Pair::new()?;
    let tfo = Tfo::new(&pair.server);
    let _python = start(&pair.server)?;
    for (sysctl, state) in [("1", "off-by-host"), ("514", "without-cookie"), ("2", "on")] {
        pair.server.set_sysctl("net.ipv4.tcp_fastopen", sysctl)?;
        ensure!(
            shown(&tfo, 1002)?["fast_open"] == state,
            "{sysctl}: {state}"
        );
        ensure!(shown(&tfo, 1001)?["fast_open"] == "off");
    }
    Ok(())
}

#[test]
fn a_pending_connection_stands_in_the_queue() -> Result<()> {
    let testbed = Testbed::new()?;
    let family = Family::V4;
    let listener = testbed.listen(family)?;
    let server = SocketAddr::new(family.server(), listener.port());
    let mut client = RawClient::new(&testbed.pair, family, 1)?;
    let key = *keys::of_kernel(&testbed.pair.server)?
        .first()
        .context("no key")?;
    let cookie = keys::cookie(&key, client.address(), server.ip());
    // A handshake that never completes.
    client.send(server, &RawSyn::fast_open(34, &cookie, b"data"))?;
    let shown = shown(&testbed.tfo, listener.port())?;
    ensure!(shown["queue"] == 1 && shown["backlog"] == 1, "{shown}");
    Ok(())
}
