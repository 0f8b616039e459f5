//! `tfo enable` and `tfo disable`.

use std::process::ExitCode;

use anyhow::bail;
use clap::Args;
use serde_json::{Value, json};
use tfo_userspace::{
    kernel::sysctl,
    listeners::{self, Change, DEFAULT_QUEUE, Refusal, Target},
};

use super::{
    number,
    output::{print, print_json, printable, table, warn, warn_if_off},
};

/// The demand of Fast Open on an application that was not written for it.
const TWICE: &str = "TCP may deliver the data of a SYN twice (RFC 7413, sections 2.1 and 6.1): leave Fast Open off where the \
                     application cannot take the same request twice (`tfo disable` turns it off), or have a policy take it \
                     at most once (`tfo policy set --valid once`)";

#[derive(Args)]
pub(super) struct EnableArgs {
    /// The port of the listeners, in this network namespace
    #[arg(long, value_parser = number::port)]
    port: u16,
    /// Most pending Fast Open connections of a listener, at most net.core.somaxconn
    #[arg(long, value_name = "N", default_value_t = DEFAULT_QUEUE, value_parser = number::number::<u32>(1..=65_535))]
    queue: u32,
    /// Only listeners that a process of this name holds, as in /proc/PID/comm
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

#[derive(Args)]
pub(super) struct DisableArgs {
    /// The port of the listeners, in this network namespace
    #[arg(long, value_parser = number::port)]
    port: u16,
    /// Only listeners that a process of this name holds, as in /proc/PID/comm
    #[arg(long, value_name = "NAME")]
    process: Option<String>,
    /// Print one JSON object
    #[arg(long)]
    json: bool,
}

pub(super) fn enable(args: &EnableArgs) -> anyhow::Result<ExitCode> {
    let (port, queue) = (args.port, args.queue);
    let mode = sysctl::mode()?;
    if mode.no_cookie() {
        bail!(
            "port {port}: listeners here take data without a cookie, also from a spoofed address (net.ipv4.tcp_fastopen = {}): clear bit 0x200 first: sysctl -w net.ipv4.tcp_fastopen={}",
            mode.0,
            mode.0 & !0x200
        );
    }
    let most = sysctl::somaxconn()?;
    if queue > most {
        bail!(
            "--queue {queue}: the kernel takes at most net.core.somaxconn = {most} here: give {most} or less, or raise it"
        );
    }
    let changes = change(port, queue, args.process.as_deref())?;
    if changes.iter().any(|change| change.result.is_ok()) {
        warn(TWICE);
        warn_if_off()?;
    }
    report(port, &changes, args.json)
}

pub(super) fn disable(args: &DisableArgs) -> anyhow::Result<ExitCode> {
    let changes = change(args.port, 0, args.process.as_deref())?;
    report(args.port, &changes, args.json)
}

/// Sets the queue of the listeners of `port`. With `process`, those of others are not part of it.
fn change(port: u16, queue: u32, process: Option<&str>) -> anyhow::Result<Vec<Change>> {
    let wanted = |each| (each == port).then(|| (queue, process.map(str::to_owned)));
    let targets = listeners::on_port(&wanted)?;
    if targets.is_empty() {
        bail!(
            "port {port}: nothing listens there in this network namespace: `tfo listeners` shows what does; --netns acts in another"
        );
    }
    let (others, asked): (Vec<_>, Vec<_>) = listeners::change(targets)?
        .into_iter()
        .partition(|change| matches!(change.result, Err(Refusal::OtherProcess { .. })));
    if let (Some(other), [], Some(process)) = (others.first(), &asked[..], process) {
        bail!(
            "port {port}: no process {process} holds a listener there: {} does: give --process {}, or leave it out",
            holder(other),
            other.process.as_deref().unwrap_or_default()
        );
    }
    Ok(asked)
}

/// A row for each listener that was changed, and a line on standard error for each that was not.
fn report(port: u16, changes: &[Change], as_json: bool) -> anyhow::Result<ExitCode> {
    if as_json {
        let listeners: Vec<_> = changes.iter().map(to_json).collect();
        print_json(&json!({ "port": port, "listeners": listeners }))?;
    } else {
        let heads = ["listener", "process", "queue before", "after"];
        let mut rows = vec![heads.map(str::to_owned).to_vec()];
        rows.extend(changes.iter().filter_map(row));
        if rows.len() > 1 {
            print(&table(&rows))?;
        }
    }
    let mut status = ExitCode::SUCCESS;
    for change in changes {
        if let Err(refusal) = &change.result {
            let name = change.target.name();
            let line = match change.pid {
                Some(_) => format!("{name} of {}: {refusal}", holder(change)),
                None => format!("{name}: {refusal}"),
            };
            eprintln!("tfo: {}", printable(&line));
            status = ExitCode::FAILURE;
        }
    }
    Ok(status)
}

/// The process and its id.
fn holder(change: &Change) -> String {
    let process = change.process.as_deref().unwrap_or("-");
    match change.pid {
        Some(pid) => format!("{process} ({pid})"),
        None => process.to_owned(),
    }
}

fn row(change: &Change) -> Option<Vec<String>> {
    let (before, after) = change.result.as_ref().ok()?;
    Some(vec![
        change.target.name(),
        holder(change),
        before.to_string(),
        after.to_string(),
    ])
}

fn to_json(change: &Change) -> Value {
    let Target {
        address, device, ..
    } = &change.target;
    let queues = change.result.as_ref().ok();
    json!({
        "address": address.ip(),
        "port": address.port(),
        "device": device,
        "process": change.process,
        "pid": change.pid,
        "queue_before": queues.map(|(before, _)| before),
        "queue": queues.map(|(_, after)| after),
        "error": change.result.as_ref().err().map(ToString::to_string),
    })
}
