//! What the data path costs and what Fast Open saves: `report.json`, `report.md` and plots.
//!
//! Whatever is compared runs in turns, round by round, so that what else the machine does falls on both;
//! a ratio is taken within a round.

#![expect(
    clippy::cast_precision_loss,
    reason = "what a run counts is far below 2^52"
)]

mod actions;
mod cases;
mod challenges;
mod compare;
mod controller;
mod data_path;
mod field;
mod floods;
mod frames;
mod growth;
mod host;
mod markdown;
mod measure;
mod output;
mod peers;
mod plot;
mod report;
mod rotation;
mod saving;
mod sizes;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use crate::{
    measure::Effort,
    report::{Report, Section},
};

/// Measures the data path, and writes a report. Needs root.
#[derive(Parser)]
struct Arguments {
    /// Finish in two minutes: fewer and shorter rounds
    #[arg(long)]
    quick: bool,
    /// Say what got slower since that report, and end with status 3 where a ratio worsened by more than 10 %
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Where the report goes
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    /// Measure only this part, and write nothing
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<Part>,
    /// Rounds that are kept; at most 5 of the parts whose rounds take long
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// What was built
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Today
    #[arg(long, default_value = "unknown")]
    date: String,
}

/// What is measured.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// What a frame costs
    Frames,
    /// What it costs to decide about a SYN
    Actions,
    /// The same where there are many ports, sources, listeners and keys
    Growth,
    /// Traffic over veth
    Host,
    /// What Fast Open saves
    Saving,
    /// Rotation of keys under load
    Rotation,
    /// Honest clients in a flood of bad cookies
    Floods,
    /// Memory and times of the controller
    Controller,
}

impl Part {
    fn measure(self, effort: &Effort, report: &mut Report) -> Result<Section> {
        match self {
            Self::Frames => frames::section(effort, report),
            Self::Actions => actions::section(effort, report),
            Self::Growth => growth::section(effort),
            Self::Host => host::section(&effort.of_long_rounds(), report),
            Self::Saving => saving::section(effort),
            Self::Rotation => rotation::section(effort),
            Self::Floods => floods::section(&effort.of_long_rounds(), report),
            Self::Controller => controller::section(&effort.of_long_rounds()),
        }
    }
}

impl Arguments {
    fn effort(&self) -> Effort {
        let mut effort = if self.quick {
            Effort {
                rounds: 3,
                long_rounds: 2,
                runs: 50_000,
                load: Duration::from_millis(200),
                floods: 1,
                rotations: 100,
                idle: Duration::from_millis(500),
            }
        } else {
            Effort {
                rounds: 11,
                long_rounds: 5,
                runs: 500_000,
                load: Duration::from_secs(2),
                floods: 5,
                rotations: 1000,
                idle: Duration::from_secs(10),
            }
        };
        if let Some(rounds) = self.rounds {
            effort.rounds = rounds.into();
            effort.long_rounds = effort.rounds.min(5);
        }
        effort
    }
}

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    output::ensure_undisturbed()?;
    // Read first: the new report may take its place.
    let old = arguments.compare.as_ref().map(read).transpose()?;
    let mut report = Report {
        machine: output::machine(&arguments.commit, &arguments.date, arguments.quick)?,
        ..Report::default()
    };
    let effort = arguments.effort();
    let all = arguments.parts.is_empty();
    for part in Part::value_variants() {
        if all || arguments.parts.contains(part) {
            let section = part.measure(&effort, &mut report);
            let section = section.with_context(|| format!("cannot measure {part:?}"))?;
            report.sections.push(section);
        }
    }
    if all {
        output::write(&report, &arguments.out)?;
        println!("wrote {}", arguments.out.join("report.md").display());
    } else {
        print!("{}", markdown::page(&report));
    }
    let Some(old) = old else {
        return Ok(ExitCode::SUCCESS);
    };
    let slower = compare::slower(&old, &report);
    if slower.is_empty() {
        println!("nothing got slower by more than 10 %");
        return Ok(ExitCode::SUCCESS);
    }
    for compare::Slower { name, before, now } in slower {
        println!("slower: {name}: {before:.2} before, {now:.2} now");
    }
    Ok(ExitCode::from(3))
}

/// An earlier report.
fn read(path: &PathBuf) -> Result<Report> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        let path = path.display();
        format!("{path} is no report of this benchmark: make one with `cargo xtask bench`")
    })
}
