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
    veth::{Family, Pair},
};

/// Address family, address, port and options of each listener; the options are set before listen(2).
const SOCKETS: &str = "
import socket, time
FASTOPEN, KEY, NO_COOKIE = 23, 33, 34
sockets = []
def listen(family, address, port, options, backlog):
    s = socket.socket(family)
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
listen(socket.AF_INET, '0.0.0.0', 1006, [(FASTOPEN, 0)], 12)
time.sleep(60)
";

fn start(netns: &Netns) -> Result<Background> {
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
            "queue": 0, "backlog": 0, "max_backlog": backlog, "uid": 0,
        })
    };
    let rows = [
        row(1001, "127.0.0.1", "off", 0, 0, 7),
        row(1002, "0.0.0.0", "on", 16, 0, 8),
        row(1003, "0.0.0.0", "on", 5, 1, 9),
        row(1004, "::", "on", 5, 2, 10),
        row(1005, "::1", "without-cookie", 5, 0, 11),
        row(1006, "0.0.0.0", "off", 0, 0, 12),
    ];
    // The sockets of this namespace only, sorted. No program need be attached.
    ensure!(tfo.json(&["listeners"])? == json!({ "listeners": rows }));
    let text = tfo.done(&["listeners"])?;
    ensure!(
        text.contains("[::1]:1005") && text.contains("on, without cookie"),
        "{text}"
    );
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
