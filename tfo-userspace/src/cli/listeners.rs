//! `tfo listeners`.

use serde_json::json;
use tfo_userspace::datapath::{self, FastOpenState, ListeningSocket};

use super::output::{print, print_json, table};

pub(super) fn run(json: bool) -> anyhow::Result<()> {
    let sockets = datapath::listeners()?;
    if json {
        let listeners: Vec<_> = sockets.iter().map(to_json).collect();
        return print_json(&json!({ "listeners": listeners }));
    }
    let heads = [
        "listener",
        "protocol",
        "queue",
        "limit",
        "keys",
        "backlog",
        "uid",
        "Fast Open",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(sockets.iter().map(row));
    print(&table(&rows))
}

fn row(socket: &ListeningSocket) -> Vec<String> {
    let keys = match socket.own_keys {
        0 => "host's".to_owned(),
        count => format!("{count} own"),
    };
    let state = match socket.state {
        FastOpenState::On => "on",
        FastOpenState::WithoutCookie => "on, without cookie",
        FastOpenState::QueueFull => "queue full",
        FastOpenState::Off => "off",
        FastOpenState::OffByHost => "off by net.ipv4.tcp_fastopen",
    };
    vec![
        socket.name(),
        if socket.mptcp { "MPTCP" } else { "TCP" }.to_owned(),
        socket.queue.to_string(),
        socket.limit.to_string(),
        keys,
        format!("{}/{}", socket.backlog, socket.max_backlog),
        socket.uid.to_string(),
        state.to_owned(),
    ]
}

fn to_json(socket: &ListeningSocket) -> serde_json::Value {
    json!({
        "address": socket.address.ip(),
        "port": socket.address.port(),
        "device": socket.device.as_ref().and_then(|device| device.name.as_deref()),
        "device_index": socket.device.as_ref().map(|device| device.index),
        "mptcp": socket.mptcp,
        "uid": socket.uid,
        "fast_open": socket.state,
        "queue": socket.queue,
        "limit": socket.limit,
        "own_keys": socket.own_keys,
        "backlog": socket.backlog,
        "max_backlog": socket.max_backlog,
    })
}
