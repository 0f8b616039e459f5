//! What a run found: the figures, and in which tables they stand.

use serde::{Deserialize, Serialize};

/// All of it, as `report.json` has it.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Report {
    pub(crate) machine: Machine,
    pub(crate) sections: Vec<Section>,
    /// What was to be measured and could not be: its name, and why.
    pub(crate) missing: Vec<(String, String)>,
}

/// Where, when and of what the figures are.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Machine {
    pub(crate) cpu: String,
    pub(crate) cores: usize,
    pub(crate) kernel: String,
    /// `false` where the kernel interprets programs.
    pub(crate) compiled: bool,
    pub(crate) commit: String,
    pub(crate) date: String,
    /// Fewer and shorter rounds.
    pub(crate) quick: bool,
}

/// Tables that belong together.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Section {
    pub(crate) title: String,
    /// How it was measured, and what it shows; a paragraph each.
    pub(crate) about: Vec<String>,
    pub(crate) tables: Vec<Table>,
    pub(crate) plots: Vec<Plot>,
}

/// An SVG file beside the report, drawn from the section's tables.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Plot {
    pub(crate) file: String,
    pub(crate) caption: String,
    /// By their places in the section.
    pub(crate) tables: Vec<usize>,
    /// Curves over what the rows' names are numbers of; else bars of the one table.
    pub(crate) over: Option<String>,
}

/// Figures of one kind.
#[derive(Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Table {
    pub(crate) name: String,
    /// What a row is.
    pub(crate) of: String,
    pub(crate) unit: String,
    /// What the figures are held against, if against anything.
    pub(crate) yardstick: Option<String>,
    pub(crate) subject: String,
    pub(crate) more_is_better: bool,
    pub(crate) rows: Vec<Row>,
}

/// One figure.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Row {
    pub(crate) name: String,
    pub(crate) yardstick: Option<Spread>,
    pub(crate) subject: Spread,
    /// The subject in yardsticks, each taken within a round.
    pub(crate) ratio: Option<Spread>,
}

/// A figure of several rounds.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) least: f64,
    pub(crate) most: f64,
}

/// Both figures of one round.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sample {
    pub(crate) yardstick: f64,
    pub(crate) subject: f64,
}

impl Report {
    /// That could not be measured.
    pub(crate) fn miss(&mut self, what: &str, error: &anyhow::Error) {
        let why = format!("{error:#}").replace('\n', " ");
        self.missing.push((what.to_owned(), why));
    }
}

impl Table {
    /// Nanoseconds of `tfo` beside an empty program's.
    pub(crate) fn beside_empty(name: &str, of: &str, rows: Vec<Row>) -> Self {
        Self {
            name: name.into(),
            of: of.into(),
            unit: "nanoseconds for a packet".into(),
            yardstick: Some("empty program".into()),
            subject: "tfo".into(),
            rows,
            ..Self::default()
        }
    }
}

impl Spread {
    /// # Panics
    ///
    /// Where there are no figures.
    pub(crate) fn of(figures: impl IntoIterator<Item = f64>) -> Self {
        let mut figures: Vec<f64> = figures.into_iter().collect();
        figures.sort_by(f64::total_cmp);
        let [low, high] = [figures.len() - 1, figures.len()].map(|len| figures[len / 2]);
        Self {
            median: f64::midpoint(low, high),
            least: figures[0],
            most: figures[figures.len() - 1],
        }
    }
}

impl Row {
    /// A figure beside its yardstick.
    pub(crate) fn paired(name: impl Into<String>, samples: &[Sample]) -> Self {
        let spread = |figure: fn(&Sample) -> f64| Spread::of(samples.iter().map(figure));
        Self {
            name: name.into(),
            yardstick: Some(spread(|sample| sample.yardstick)),
            subject: spread(|sample| sample.subject),
            ratio: Some(spread(|sample| sample.subject / sample.yardstick)),
        }
    }

    /// A figure that stands alone.
    pub(crate) fn single(name: impl Into<String>, figures: impl IntoIterator<Item = f64>) -> Self {
        Self {
            name: name.into(),
            yardstick: None,
            subject: Spread::of(figures),
            ratio: None,
        }
    }
}
