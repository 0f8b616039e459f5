//! Regressions since an earlier report.

use std::collections::BTreeMap;

use crate::report::{Report, Row};

/// Relative change of a ratio that counts as noise.
const TOLERANCE: f64 = 0.1;

/// A ratio that regressed.
#[derive(Debug, PartialEq)]
pub(crate) struct Slower {
    /// `section: table: row`.
    pub(crate) name: String,
    pub(crate) before: f64,
    pub(crate) now: f64,
}

/// Ratios that regressed from `old` to `new` by more than [`TOLERANCE`]. Absolute values depend on the machine and
/// are not compared; neither are rows that only one report has.
pub(crate) fn slower(old: &Report, new: &Report) -> Vec<Slower> {
    let before = ratios(old);
    let worse = ratios(new).into_iter().filter_map(|(name, (now, more))| {
        let (before, _) = *before.get(&name)?;
        let change = if more { before / now } else { now / before };
        (change > 1.0 + TOLERANCE).then_some(Slower { name, before, now })
    });
    worse.collect()
}

/// The median of every ratio by name, and its table's `more_is_better`.
fn ratios(report: &Report) -> BTreeMap<String, (f64, bool)> {
    let mut ratios = BTreeMap::new();
    for section in &report.sections {
        for table in &section.tables {
            for Row { name, ratio, .. } in &table.rows {
                if let Some(ratio) = ratio {
                    let name = format!("{}: {}: {name}", section.title, table.name);
                    ratios.insert(name, (ratio.median, table.more_is_better));
                }
            }
        }
    }
    ratios
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::report::{Sample, Section, Table};

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
}
