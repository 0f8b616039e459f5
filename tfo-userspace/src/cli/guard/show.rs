//! What `tfo guard show` prints.

use std::fmt::Write as _;

use serde_json::{Value, json};
use tfo_common::guard::GuardMode;
use tfo_userspace::{
    datapath::GuardState,
    model::{EdgeGuard, Guard, PortState, format_rate},
};

use super::super::output::{self, print_json, rate_json, table};

pub(super) fn print(state: Option<&GuardState>, json: bool) -> anyhow::Result<()> {
    match (state, json) {
        (Some(state), true) => print_json(&to_json(state)),
        (None, true) => print_json(&json!({ "in_force": false })),
        (Some(state), false) => output::print(&text(state)),
        (None, false) => output::print("no guard: every SYN goes to the kernel\n"),
    }
}

fn text(state: &GuardState) -> String {
    let heads = [
        "port",
        "mode",
        "guarded",
        "for",
        "switched on",
        "above",
        "quiet",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(state.ports.iter().map(|port| {
        let PortState {
            rule,
            on,
            since,
            switches,
            ..
        } = port;
        let auto = rule.mode == GuardMode::Auto;
        let of_auto = |text: String| if auto { text } else { "-".to_owned() };
        vec![
            port.name(),
            rule.mode.name().to_owned(),
            if *on { "yes" } else { "no" }.to_owned(),
            match since {
                Some(since) if *on => format!("{} s", since.as_secs()),
                _ => "-".to_owned(),
            },
            switches.to_string(),
            of_auto(format_rate(rule.above)),
            of_auto(format!("{} s", rule.quiet.as_secs_f64())),
        ]
    }));
    let mut text = table(&rows);
    let Guard {
        replies, proven, ..
    } = &state.guard;
    text.push('\n');
    for (service, edge) in &state.guard.edges {
        let mss = edge.mss.map(|mss| format!("MSS at most {mss}, "));
        let scale = edge.window_scale.unwrap_or(state.window_scale);
        let mss = mss.unwrap_or_default();
        let scale = if edge.options.window_scaling {
            format!("window scale {scale}")
        } else {
            "no window scale".to_owned()
        };
        let limits = limits(edge);
        let _ = writeln!(text, "{service}: behind this host; {mss}{scale}{limits}");
    }
    if let Some(secret) = &state.guard.secret {
        let secret = secret.fingerprint();
        let scale = state.window_scale;
        let _ = writeln!(text, "shared secret {secret}; window scale {scale} here");
    }
    let _ = writeln!(
        text,
        "one source: {} SYN-ACKs, {} SYNs with a valid cookie",
        format_rate(*replies),
        format_rate(*proven)
    );
    text
}

/// What hosts behind keep less of than this host.
fn limits(edge: &EdgeGuard) -> String {
    let options = edge.options;
    let mut text = String::new();
    if let Some(buffer) = edge.receive_buffer {
        let _ = write!(text, ", receive buffer {buffer}");
    }
    for (has, name) in [
        (options.timestamps, "timestamps"),
        (options.sack, "SACK"),
        (options.ecn, "ECN"),
    ] {
        if !has {
            let _ = write!(text, ", no {name}");
        }
    }
    text
}

fn to_json(state: &GuardState) -> Value {
    let ports = state.ports.iter().map(|port| {
        json!({
            "vip": port.vip.map(|vip| vip.to_string()),
            "port": (port.port != 0).then_some(port.port),
            "mode": port.rule.mode.name(),
            "on": port.on,
            "since_seconds": port.since.map(|since| since.as_secs_f64()),
            "switched_on": port.switches,
            "above": rate_json(port.rule.above),
            "quiet_seconds": port.rule.quiet.as_secs_f64(),
        })
    });
    let edges = state.guard.edges.iter().map(|(service, edge)| {
        json!({
            "vip": service.vip.to_string(),
            "port": service.port,
            "mss": edge.mss,
            "window_scale": edge.window_scale,
            "receive_buffer": edge.receive_buffer,
            "options": {
                "window_scaling": edge.options.window_scaling,
                "timestamps": edge.options.timestamps,
                "sack": edge.options.sack,
                "ecn": edge.options.ecn,
            },
        })
    });
    let secret = state.guard.secret.as_ref();
    json!({
        "in_force": true,
        "window_scale": state.window_scale,
        "secret": secret.map(|secret| secret.fingerprint().to_string()),
        "edges": edges.collect::<Vec<_>>(),
        "replies": rate_json(state.guard.replies),
        "proven": rate_json(state.guard.proven),
        "ports": ports.collect::<Vec<_>>(),
    })
}
