//! Tables and plots of the flood benchmark.

use super::{defence::Defence, field::Flood, second::Second};
use crate::report::{Plot, Row, Sample, Table};

/// The host behind an edge sees nothing of a flood that the edge answers.
pub(super) fn of_host(flood: Flood, defences: &[Defence], seconds: &[Vec<Second>]) -> Table {
    less_is_better(table(
        flood,
        "segments that reach the host's TCP for each honest connection",
        "segments",
        alone(defences, seconds, |second| second.segments),
    ))
}

/// The figures of each defence.
fn alone(defences: &[Defence], seconds: &[Vec<Second>], figure: fn(&Second) -> f64) -> Vec<Row> {
    let all = defences.iter().zip(seconds);
    all.map(|(defence, seconds)| Row::single(defence.name(), seconds.iter().map(figure)))
        .collect()
}

fn table(flood: Flood, name: &str, unit: &str, rows: Vec<Row>) -> Table {
    Table {
        name: format!("{}: {name}", flood.name()),
        of: "defence".into(),
        unit: unit.into(),
        subject: "with it".into(),
        more_is_better: true,
        rows,
        ..Table::default()
    }
}

fn less_is_better(table: Table) -> Table {
    Table {
        more_is_better: false,
        ..table
    }
}

pub(super) fn tables(flood: Flood, defences: &[Defence], seconds: &[Vec<Second>]) -> Vec<Table> {
    let beside = |figure: fn(&Second) -> f64| {
        let others = defences.iter().zip(seconds).skip(1);
        let rows = others.map(|(defence, subject)| {
            let rounds = seconds[0].iter().zip(subject);
            let samples = rounds.map(|(yardstick, subject)| Sample {
                yardstick: figure(yardstick),
                subject: figure(subject),
            });
            Row::paired(defence.name(), &samples.collect::<Vec<_>>())
        });
        rows.collect::<Vec<_>>()
    };
    let alone = |figure| alone(defences, seconds, figure);
    let table = |name, unit, rows| table(flood, name, unit, rows);
    let with_yardstick = |table: Table| Table {
        yardstick: Some("no flood".into()),
        subject: "flooded".into(),
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
