//! Data model of `report.json`.

use serde::{Deserialize, Serialize};

use crate::net::{self, Cost};

/// The whole report.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) sections: Vec<Section>,
    /// Measurements that failed: name and error.
    pub(crate) missing: Vec<(String, String)>,
}

/// Machine, commit and date.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// BPF JIT is on.
    pub(crate) compiled: bool,
    pub(crate) commit: String,
    pub(crate) date: String,
    /// Run with `--quick`.
    pub(crate) quick: bool,
    /// Absent in reports of earlier versions.
    #[serde(default)]
    pub(crate) quiet: Option<Quiet>,
}

/// The other load on the machine during the measurements.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Quiet {
    /// Load average of one minute, before and after.
    pub(crate) load: [f64; 2],
    /// Share of all CPUs' time that the hypervisor took (`steal`).
    pub(crate) stolen: f64,
}

/// Tables and plots of one part.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// Method and results, one paragraph each.
    pub(crate) about: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
}

/// An SVG file, drawn from the section's tables.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) file: String,
    pub(crate) caption: String,
    /// Indices into the section's tables.
    pub(crate) tables: Vec<usize>,
    /// Label of the x axis of curves, whose row names are numbers; `None` for bars of one table.
    pub(crate) over: Option<String>,
}

/// Values of one unit.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// Heading of the first column.
    pub(crate) of: String,
    pub(crate) unit: String,
    /// Heading of the baseline's column, if there is one.
    pub(crate) yardstick: Option<String>,
    pub(crate) subject: String,
    pub(crate) more_is_better: bool,
    /// Meaning of [`Row::net`]; `None` without net figures.
    #[serde(default)]
    pub(crate) net: Option<Net>,
    pub(crate) rows: Vec<Row>,
}

/// A figure net of an empty program, which was measured in the same round.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Net {
    /// The baseline is the empty program: what the subject costs more.
    Difference,
    /// The subject's cost beyond the empty program's, divided by the baseline's cost beyond it.
    Ratio,
}

/// One measurement.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) yardstick: Option<Spread>,
    pub(crate) subject: Spread,
    /// Subject divided by baseline, within each round.
    pub(crate) ratio: Option<Spread>,
    /// As [`Table::net`] says, within each round; `None` where the baseline costs hardly more than the empty program.
    #[serde(default)]
    pub(crate) net: Option<Spread>,
    /// The same of instructions retired, where the machine counts them.
    #[serde(default)]
    pub(crate) instructions: Option<Spread>,
}

/// Median, minimum and maximum over the rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Baseline and subject of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) yardstick: f64,
    pub(crate) subject: f64,
}

impl Report {
    /// Returns `needed`, on which a measurement depends; on an error, records that it failed.
    pub(crate) fn had<T>(&mut self, what: &str, needed: anyhow::Result<T>) -> Option<T> {
        needed.map_err(|error| self.miss(what, &error)).ok()
    }

    /// Records a measurement that failed.
    pub(crate) fn miss(&mut self, what: &str, error: &anyhow::Error) {
        let why = format!("{error:#}").replace('\n', " ");
        self.missing.push((what.to_owned(), why));
    }
}

impl Table {
    /// A table in nanoseconds with an empty program as baseline.
    pub(crate) fn beside_empty(name: &str, of: &str, rows: Vec<Row>) -> Self {
        Self {
            name: name.into(),
            of: of.into(),
            unit: "nanoseconds per packet".into(),
            yardstick: Some("empty program".into()),
            subject: "tfo".into(),
            net: Some(Net::Difference),
            rows,
            ..Self::default()
        }
    }

    /// A table in nanoseconds with another program as baseline, and an empty one measured along.
    pub(crate) fn beside(name: &str, of: &str, yardstick: &str, rows: Vec<Row>) -> Self {
        Self {
            yardstick: Some(yardstick.into()),
            net: Some(Net::Ratio),
            ..Self::beside_empty(name, of, rows)
        }
    }
}

impl Spread {
    /// # Panics
    ///
    /// `figures` is empty.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        Self::of_any(figures).expect("a measurement has a figure")
    }

    /// `None` without figures.
    fn of_any(figures: impl IntoIterator<Item = f64>) -> Option<Self> {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let (first, last) = (*figures.first()?, *figures.last()?);
        let [low, high] = [figures.len() - 1, figures.len()].map(|len| figures[len / 2]);
        Some(Self {
            median: f64::midpoint(low, high),
            least: first,
            most: last,
        })
    }
}

impl Row {
    /// A row with a baseline.
    pub(crate) fn paired(name: impl Into<String>, samples: &[Sample]) -> Self {
        let spread = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        Self {
            name: name.into(),
            yardstick: Some(spread(|sample| sample.yardstick)),
            subject: spread(|sample| sample.subject),
            ratio: Some(spread(|sample| sample.subject / sample.yardstick)),
            net: None,
            instructions: None,
        }
    }

    /// A row without a baseline.
    pub(crate) fn single(name: impl Into<String>, figures: impl IntoIterator<Item = f64>) -> Self {
        Self {
            name: name.into(),
            yardstick: None,
            subject: Spread::of(figures),
            ratio: None,
            net: None,
            instructions: None,
        }
    }

    /// A row of [`Table::beside_empty`]: an empty program and the subject, of each round.
    pub(crate) fn beside_empty(name: impl Into<String>, rounds: &[[Cost; 2]]) -> Self {
        let more = |of: fn(&Cost) -> Option<f64>| {
            let more = rounds
                .iter()
                .map(|[empty, subject]| Some(of(subject)? - of(empty)?));
            Spread::of_any(more.flatten())
        };
        Self {
            net: more(|cost| Some(cost.nanoseconds)),
            instructions: more(|cost| cost.instructions),
            ..Self::of_costs(name, rounds)
        }
    }

    /// A row of [`Table::beside`]: an empty program, the baseline and the subject, of each round.
    pub(crate) fn beside(name: impl Into<String>, rounds: &[[Cost; 3]]) -> Self {
        let ratio = |of: fn(&Cost) -> Option<f64>| {
            let figures = rounds.iter().map(|[empty, yardstick, subject]| {
                Some([of(empty)?, of(yardstick)?, of(subject)?])
            });
            Spread::of_any(net::ratios(&figures.flatten().collect::<Vec<_>>()))
        };
        let beside: Vec<_> = rounds
            .iter()
            .map(|[_, yardstick, subject]| [*yardstick, *subject])
            .collect();
        Self {
            net: ratio(|cost| Some(cost.nanoseconds)),
            instructions: ratio(|cost| cost.instructions),
            ..Self::of_costs(name, &beside)
        }
    }

    fn of_costs(name: impl Into<String>, rounds: &[[Cost; 2]]) -> Self {
        let samples = rounds.iter().map(|[yardstick, subject]| Sample {
            yardstick: yardstick.nanoseconds,
            subject: subject.nanoseconds,
        });
        Self::paired(name, &samples.collect::<Vec<_>>())
    }
}
