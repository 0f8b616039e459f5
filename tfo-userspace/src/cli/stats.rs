//! `tfo stats`.

use std::time::Duration;

use serde_json::{Map, Value, json};
use tfo_common::counters::{Counter, Counters};
use tfo_userspace::datapath::{Drift, Namespace};

use super::output::{counters_json, print, print_json, table};

pub(super) async fn run(json: bool, by_port: bool, watch: Option<u64>) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    if json {
        return print_json(&to_json(&namespace, by_port).await?);
    }
    loop {
        let drift = namespace.drift()?;
        print(&if by_port {
            ports(&drift)
        } else {
            totals(&drift)
        })?;
        let Some(seconds) = watch else {
            return Ok(());
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => print("\n")?,
            _ = tokio::signal::ctrl_c() => return Ok(()),
        }
    }
}

async fn to_json(namespace: &Namespace, by_port: bool) -> anyhow::Result<Value> {
    let drift = namespace.drift()?;
    let by_name = |values: &mut dyn Iterator<Item = Value>| -> Map<String, Value> {
        let names = Counter::MIRRORED.map(|counter| counter.name().to_owned());
        names.into_iter().zip(values).collect()
    };
    let mut interfaces = Map::new();
    for interface in namespace.interfaces().await? {
        let counters = namespace.counters_of(interface.index)?.total;
        interfaces.insert(interface.label(), counters_json(&counters));
    }
    let mut object = json!({
        "counters": counters_json(&drift.ours.total),
        "kernel": by_name(&mut drift.kernel.into_iter().map(Value::from)),
        "drift": by_name(&mut drift.drift().into_iter().map(Value::from)),
        "interfaces": interfaces,
    });
    if by_port {
        object["ports"] = drift
            .ours
            .ports
            .iter()
            .map(|(port, counters)| (port.to_string(), counters_json(counters)))
            .collect::<Map<_, _>>()
            .into();
        object["other_ports"] = counters_json(&drift.ours.other);
    }
    Ok(object)
}

/// Every counter; beside those that the kernel has, too, its value.
fn totals(drift: &Drift) -> String {
    let mut rows = vec![
        ["counter", "tfo", "kernel", "drift"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for counter in Counter::ALL {
        let mut row = vec![
            counter.name().to_owned(),
            drift.ours.total.get(counter).to_string(),
        ];
        if let Some(index) = Counter::MIRRORED.iter().position(|each| *each == counter) {
            row.push(drift.kernel[index].to_string());
            row.push(drift.drift()[index].to_string());
        }
        rows.push(row);
    }
    table(&rows)
}

/// A row per port.
fn ports(drift: &Drift) -> String {
    const COLUMNS: [(&str, Counter); 7] = [
        ("SYNs", Counter::Syns),
        ("with data", Counter::SynsWithData),
        ("bytes", Counter::SynDataBytes),
        ("CookieReqd", Counter::CookieReqd),
        ("Passive", Counter::Passive),
        ("AltKey", Counter::PassiveAltKey),
        ("Fail", Counter::PassiveFail),
    ];
    let row = |label: String, counters: &Counters| {
        let cells = COLUMNS.map(|(_, counter)| counters.get(counter).to_string());
        std::iter::once(label).chain(cells).collect()
    };
    let heads = COLUMNS.map(|(head, _)| head.to_owned());
    let mut rows = vec![std::iter::once("port".to_owned()).chain(heads).collect()];
    for (port, counters) in &drift.ours.ports {
        rows.push(row(port.to_string(), counters));
    }
    rows.push(row("other".to_owned(), &drift.ours.other));
    table(&rows)
}
