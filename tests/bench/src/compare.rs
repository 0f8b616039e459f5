//! Regressions since an earlier report.

use std::collections::BTreeMap;

use crate::report::{Net, Report, Row, Spread, Table};

/// Relative change of a figure that counts as noise.
const TOLERANCE: f64 = 0.1;
/// Change of a net figure that counts as noise, however small the figure is: in times of its baseline.
const FLOOR: f64 = 0.05;

/// A figure that regressed.
#[derive(Debug, PartialEq)]
pub(crate) struct Slower {
    /// `section: table: row`.
    pub(crate) name: String,
    pub(crate) before: f64,
    pub(crate) now: f64,
    /// Net of the empty program.
    pub(crate) net: bool,
}

/// The figures of a row that are compared.
#[derive(Clone, Copy)]
struct Judged {
    ratio: Spread,
    net: Option<Spread>,
    more_is_better: bool,
}

impl Judged {
    /// `None` for a row without a baseline.
    fn of(table: &Table, row: &Row) -> Option<Self> {
        let ratio = row.ratio?;
        let net = match table.net {
            None => None,
            // In times of the empty program, since nanoseconds depend on the machine: a ratio is that, and 1.
            Some(Net::Difference) => row.net.map(|_| Spread {
                median: ratio.median - 1.0,
                least: ratio.least - 1.0,
                most: ratio.most - 1.0,
            }),
            Some(Net::Ratio) => row.net,
        };
        Some(Self {
            ratio,
            net,
            more_is_better: table.more_is_better,
        })
    }
}

/// Figures that regressed from `old` to `new`: net ones where both have them, else gross ratios, by more than
/// [`TOLERANCE`]. Absolute values depend on the machine and are not compared; neither are rows that only one report has.
pub(crate) fn slower(old: &Report, new: &Report) -> Vec<Slower> {
    let before = judged(old);
    let worse = judged(new).into_iter().filter_map(|(name, now)| {
        let before = before.get(&name)?;
        let (before, now, net) = if let (Some(before), Some(now)) = (before.net, now.net) {
            is_worse_net(before, now).then_some((before.median, now.median, true))
        } else {
            let [old, new] = [before.ratio.median, now.ratio.median];
            let change = if now.more_is_better {
                old / new
            } else {
                new / old
            };
            (change > 1.0 + TOLERANCE).then_some((old, new, false))
        }?;
        Some(Slower {
            name,
            before,
            now,
            net,
        })
    });
    worse.collect()
}

/// A net figure is small, and may be less than nothing: so it is worse where the median is by more than both bounds, and no
/// round now was as good as the median before.
fn is_worse_net(before: Spread, now: Spread) -> bool {
    let bound = (TOLERANCE * before.median).max(FLOOR);
    now.median - before.median > bound && now.least > before.median
}

/// The figures that are compared, by name.
fn judged(report: &Report) -> BTreeMap<String, Judged> {
    let mut all = BTreeMap::new();
    for section in &report.sections {
        for table in &section.tables {
            for row in &table.rows {
                if let Some(judged) = Judged::of(table, row) {
                    all.insert(
                        format!("{}: {}: {}", section.title, table.name, row.name),
                        judged,
                    );
                }
            }
        }
    }
    all
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        net::Cost,
        report::{Sample, Section},
    };

    fn report(more_is_better: bool, rows: &[(&str, f64)]) -> Report {
        let rows = rows.iter().map(|(name, subject)| {
            let sample = Sample {
                yardstick: 10.0,
                subject: *subject,
            };
            Row::paired(*name, &[sample])
        });
        let table = Table {
            name: "t".into(),
            more_is_better,
            rows: rows.collect(),
            ..Table::default()
        };
        let section = Section {
            title: "s".into(),
            tables: vec![table],
            ..Section::default()
        };
        Report {
            sections: vec![section],
            ..Report::default()
        }
    }

    #[test]
    fn only_what_is_past_the_tolerance_is_slower() {
        let old = report(
            false,
            &[("a", 20.0), ("b", 20.0), ("c", 20.0), ("gone", 1.0)],
        );
        let new = report(
            false,
            &[("a", 21.9), ("b", 22.1), ("c", 10.0), ("new", 99.0)],
        );
        let expected = Slower {
            name: "s: t: b".into(),
            before: 2.0,
            now: 2.21,
            net: false,
        };
        assert_eq!(slower(&old, &new), [expected]);
        assert_eq!(slower(&old, &old), []);
    }

    #[test]
    fn less_is_slower_where_more_is_better() {
        let (old, new) = (report(true, &[("a", 10.0)]), report(true, &[("a", 9.0)]));
        assert_eq!(slower(&old, &new).len(), 1);
        assert_eq!(slower(&new, &old), []);
    }

    #[test]
    fn figures_without_a_yardstick_are_not_compared() {
        let [mut old, mut new] = [1.0, 5.0].map(|_| report(false, &[]));
        for (report, figure) in [(&mut old, 1.0), (&mut new, 5.0)] {
            report.sections[0].tables[0].rows = vec![Row::single("a", [figure])];
        }
        assert_eq!(slower(&old, &new), []);
    }

    /// A report with one table of an empty program, which takes 100 ns, and of these times in each round.
    fn net_report(rows: &[(&str, &[f64])]) -> Report {
        let mut report = report(false, &[]);
        let rows = rows.iter().map(|(name, times)| {
            let rounds = times.iter().map(|time| [100.0, *time].map(cost));
            Row::beside_empty(*name, &rounds.collect::<Vec<_>>())
        });
        let table = Table::beside_empty("t", "frame", rows.collect());
        report.sections[0].tables = vec![table];
        report
    }

    fn cost(nanoseconds: f64) -> Cost {
        Cost {
            nanoseconds,
            instructions: None,
        }
    }

    #[test]
    fn net_figures_are_judged_without_the_empty_program() {
        let old = net_report(&[
            ("a", &[180.0, 200.0, 220.0]),
            ("b", &[200.0]),
            ("c", &[102.0]),
        ]);
        // By 15 % net, which is 7.5 % gross; in one round as good as before; within the floor.
        let new = net_report(&[
            ("a", &[206.0, 215.0, 219.0]),
            ("b", &[199.0, 215.0, 215.0]),
            ("c", &[106.0]),
        ]);
        let slower = slower(&old, &new);
        let names: Vec<_> = slower
            .iter()
            .map(|slower| (slower.name.as_str(), slower.net))
            .collect();
        assert_eq!(names, [("s: t: a", true)]);
    }

    #[test]
    fn gross_ratios_are_judged_where_one_report_has_no_net_figures() {
        let mut old = net_report(&[("a", &[200.0])]);
        old.sections[0].tables[0].net = None;
        old.sections[0].tables[0].rows[0].net = None;
        assert_eq!(slower(&old, &net_report(&[("a", &[215.0])])), []);
        let worse = slower(&old, &net_report(&[("a", &[230.0])]));
        assert_eq!((worse.len(), worse[0].net), (1, false));
    }
}
