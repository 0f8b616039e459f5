//! Refused cookies and time of `tfo keys rotate` under load.

use std::time::Instant;

use anyhow::Result;
use tfo_testbed::{returning::while_clients_return, testbed::Testbed};

use crate::{
    measure::Effort,
    report::{Row, Section, Table},
};

/// Rotates keys under load.
pub(crate) fn section(effort: &Effort) -> Result<Section> {
    let testbed = Testbed::new()?;
    let mut times = Vec::new();
    let visits = while_clients_return(&testbed, |wait| {
        (1..=effort.rotations).try_for_each(|number| {
            if number % 100 == 1 {
                println!("rotation: {number} of {}", effort.rotations);
            }
            wait()?;
            let start = Instant::now();
            testbed.tfo.done(&["keys", "rotate"])?;
            times.push(start.elapsed().as_secs_f64() * 1e3);
            Ok(())
        })
    })?;
    let failed = testbed.kernel()?.get("TCPFastOpenPassiveFail");
    let rotations = effort.rotations;
    let table = |name: &str, of: &str, unit: &str, rows| Table {
        name: name.into(),
        of: of.into(),
        unit: unit.into(),
        rows,
        ..Table::default()
    };
    let counts = [
        ("rotations", f64::from(rotations)),
        ("connections with a cookie", f64::from(visits.connections)),
        (
            "cookies refused, as the clients saw",
            f64::from(visits.refused),
        ),
        ("cookies refused, as the kernel counted", failed as f64),
    ];
    let counts = counts.map(|(name, count)| Row::single(name, [count]));
    let rows = vec![Row::single("tfo keys rotate", times)];
    Ok(Section {
        title: "Rotation of keys".into(),
        about: vec![ABOUT.into()],
        tables: vec![
            table("Under load", "event", "count", counts.into()),
            table("Time", "command", "milliseconds", rows),
        ],
        plots: Vec::new(),
    })
}

const ABOUT: &str = "An IPv4 and an IPv6 client connect with their cookies in a loop, each at least twice between two rotations. The\n\
    time is that of the whole command under this load.";
