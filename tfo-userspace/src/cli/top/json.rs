//! `tfo top --json`: what the screen shows, one object for each interval between two readings.

use serde_json::{Map, Value, json};
use tfo_common::counters::{Counter, Counters};
use tfo_userspace::{
    datapath::Drift,
    kernel::clock,
    metrics::NamespaceFacts,
    model::{PortState, growth},
};

use super::rates::Rates;
use crate::cli::{output::occurred_json, rate::per_second, stats::summary_json, time::rfc3339};

/// One line; `None` after the first reading, which has no interval.
pub(super) fn line(rates: &Rates) -> Option<String> {
    let (before, now) = rates.readings()?;
    let time = rfc3339(clock::since_1970(), 3);
    Some(format!("{}\n", to_json(rates, before, now, &time)))
}

fn to_json(rates: &Rates, before: &NamespaceFacts, now: &NamespaceFacts, time: &str) -> Value {
    let total = now.counters();
    let grown = growth(&before.counters(), &total);
    let rate = |grown: u64| rounded(per_second(grown, rates.between));
    let of = |grown: &Counters| -> Value {
        let counters = Counter::ALL.into_iter().map(|it| (it, grown.get(it)));
        let grew = counters.filter(|(_, grown)| *grown > 0);
        let pairs = grew.map(|(counter, grown)| (counter.name().to_owned(), rate(grown)));
        Value::Object(pairs.collect())
    };
    let ports = rates.ports().into_iter().map(|row| {
        let value = json!({
            "counters": occurred_json(&row.total),
            "per_second": of(&row.grown()),
        });
        (row.label, value)
    });
    let interfaces = now.interfaces.iter().map(|interface| {
        let value = json!({
            "mode": interface.mode.map(|mode| mode.to_string()),
            "syns_per_second": rounded(rates.interface(interface)),
        });
        (interface.name.clone(), value)
    });
    let guarded = now.guard.as_ref().map(|guard| {
        let on = guard.ports.iter().filter(|port| port.on);
        let (here, behind): (Vec<&PortState>, Vec<_>) = on.partition(|port| port.vip.is_none());
        let ports: Vec<_> = here.iter().map(|port| port.port).collect();
        let services: Vec<_> = behind.iter().map(|port| port.name()).collect();
        (ports, services)
    });
    json!({
        "time": time,
        "seconds": rounded(rates.between.as_secs_f64()),
        "fast_open": summary_json(&grown),
        "counters": occurred_json(&total),
        "per_second": of(&grown),
        "ports": ports.collect::<Map<_, _>>(),
        "interfaces": interfaces.collect::<Map<_, _>>(),
        "drift": now.drift.as_ref().map(drift_json),
        "keys": now.fingerprints,
        "keys_age_seconds": now.keys_age.map(|age| age.as_secs()),
        "keys_agree": now.keys_agree,
        "guarded_ports": guarded.as_ref().map(|(ports, _)| ports),
        "guarded_services": guarded.as_ref().map(|(_, services)| services),
        "errors": now.errors,
    })
}

fn drift_json(drift: &Drift) -> Value {
    let names = Counter::MIRRORED.into_iter().zip(drift.drift());
    let pairs = names.map(|(counter, by)| (counter.name().to_owned(), by.into()));
    Value::Object(pairs.collect())
}

/// Three digits behind the point.
fn rounded(value: f64) -> Value {
    json!((value * 1e3).round() / 1e3)
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use tfo_userspace::{datapath::Snapshot, metrics::InterfaceFacts};

    use super::*;

    fn reading(passive: u64) -> NamespaceFacts {
        let mut snapshot = Snapshot::default();
        snapshot.total.add(Counter::Passive, passive);
        snapshot.total.add(Counter::Syns, 2 * passive);
        let interface = InterfaceFacts {
            name: "eth0".to_owned(),
            counters: Some(snapshot),
            ..InterfaceFacts::default()
        };
        NamespaceFacts {
            interfaces: vec![interface],
            ..NamespaceFacts::default()
        }
    }

    #[test]
    fn an_interval_has_its_own_share_and_rates() {
        let mut rates = Rates::default();
        rates.push(reading(10), Duration::ZERO);
        assert_eq!(line(&rates), None);
        rates.push(reading(13), Duration::from_secs(2));
        let (before, now) = rates.readings().unwrap();
        let value = to_json(&rates, before, now, "now");
        assert_eq!(value["seconds"], 2.0);
        assert_eq!(value["fast_open"]["taken"], 3);
        assert_eq!(value["counters"]["TCPFastOpenPassive"], 13);
        assert_eq!(
            value["per_second"],
            json!({ "TCPFastOpenPassive": 1.5, "Syns": 3.0 })
        );
        assert_eq!(value["interfaces"]["eth0"]["syns_per_second"], 3.0);
        assert!(value["guarded_ports"].is_null() && value["drift"].is_null());
        assert!(line(&rates).unwrap().ends_with("}\n"));
    }
}
