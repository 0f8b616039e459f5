//! Tables and plots of the flood benchmark.

use super::{Second, defence::Defence, field::Flood};
use crate::report::{Plot, Row, Sample, Table};

/// The host behind an edge sees nothing of a flood that the edge answers.
pub(super) fn of_host(flood: Flood, defences: &[Defence], seconds: &[Vec<Second>]) -> Table {
    let all = defences.iter().zip(seconds);
    let rows = all.map(|(defence, seconds)| {
        let figures = seconds.iter().map(|second| second.segments);
        Row::single(defence.name(), figures)
    });
    Table {
        name: format!(
            "{}: segments that reach the host's TCP for each honest connection",
            flood.name()
        ),
        of: "defence".into(),
        unit: "segments".into(),
        subject: "with it".into(),
        rows: rows.collect(),
        ..Table::default()
    }
}

pub(super) fn tables(flood: Flood, defences: &[Defence], seconds: &[Vec<Second>]) -> Vec<Table> {
    let names: Vec<_> = defences.iter().map(|defence| defence.name()).collect();
    let beside = |figure: fn(&Second) -> f64| {
        let others = names.iter().zip(seconds).skip(1);
        let rows = others.map(|(name, subject)| {
            let rounds = seconds[0].iter().zip(subject);
            let samples = rounds.map(|(yardstick, subject)| Sample {
                yardstick: figure(yardstick),
                subject: figure(subject),
            });
            Row::paired(*name, &samples.collect::<Vec<_>>())
        });
        rows.collect::<Vec<_>>()
    };
    let alone = |figure: fn(&Second) -> f64| {
        let all = names.iter().zip(seconds);
        let rows = all.map(|(name, seconds)| Row::single(*name, seconds.iter().map(figure)));
        rows.collect::<Vec<_>>()
    };
    let table = |name: &str, unit: &str, rows| Table {
        name: format!("{}: {name}", flood.name()),
        of: "defence".into(),
        unit: unit.into(),
        subject: "with it".into(),
        more_is_better: true,
        rows,
        ..Table::default()
    };
    let with_yardstick = |table: Table| Table {
        yardstick: Some("no flood".into()),
        subject: "flooded".into(),
        ..table
    };
    let less_is_better = |table: Table| Table {
        more_is_better: false,
        ..table
    };
    vec![
        with_yardstick(table(
            "honest connections with data taken from the SYN",
            "per second",
            beside(|second| second.in_syn),
        )),
        with_yardstick(table(
            "honest connections without Fast Open",
            "per second",
            beside(|second| second.plain),
        )),
        less_is_better(table(
            "time to open a connection without Fast Open, median",
            "milliseconds",
            alone(|second| second.connects[0]),
        )),
        less_is_better(table(
            "time to open a connection without Fast Open, 99th percentile",
            "milliseconds",
            alone(|second| second.connects[1]),
        )),
        table(
            "TCPFastOpenPassive",
            "per second",
            alone(|second| second.passive),
        ),
        table(
            "SYNs of the flood",
            "per second",
            alone(|second| second.flood),
        ),
        less_is_better(table(
            "CPUs in use",
            "percent of all CPU time",
            alone(|second| second.busy),
        )),
    ]
}

/// Tables per flood.
const TABLES: usize = 7;

pub(super) fn plots() -> Vec<Plot> {
    let plot = |file: &str, what: &str, table| Plot {
        file: file.into(),
        caption: format!("{what}, relative to no flood (higher is better)"),
        tables: vec![table],
        over: None,
    };
    vec![
        plot(
            "flood-plain-in-syn.svg",
            "Flood of plain SYNs: connections whose SYN data is accepted",
            0,
        ),
        plot(
            "flood-plain-plain.svg",
            "Flood of plain SYNs: connections without Fast Open",
            1,
        ),
        plot(
            "flood-cookies-in-syn.svg",
            "Flood of invalid cookies: connections whose SYN data is accepted",
            TABLES,
        ),
    ]
}
