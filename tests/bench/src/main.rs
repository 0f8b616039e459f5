//! Measures the cost of the data path and the latency that TCP Fast Open saves. Writes `report.json`, `report.md` and
//! plots.
//!
//! Baseline and subject run in turns, round by round, so that other load on the machine affects both. Ratios are taken
//! within a round.

#![expect(
    clippy::cast_precision_loss,
    reason = "counts of a run are far below 2^52"
)]

mod actions;
mod cases;
mod challenges;
mod compare;
mod controller;
mod data_path;
mod floods;
mod frames;
mod growth;
mod host;
mod instructions;
mod markdown;
mod measure;
mod mixed;
mod net;
mod output;
mod own_cookies;
mod peer_files;
mod peers;
mod plot;
mod quiet;
mod report;
mod restore;
mod rotation;
mod saving;
mod sizes;
mod within;

use std::{fs, path::PathBuf, process::ExitCode, time::Duration};

use anyhow::{Context as _, Result};
use clap::{Parser, ValueEnum};

use crate::{
    measure::Effort,
    peer_files::PeerFile,
    report::{Report, Section},
};

/// Measure the data path and write a report. Needs root.
#[derive(Parser)]
struct Arguments {
    /// Run fewer and shorter rounds: two minutes in total
    #[arg(long)]
    quick: bool,
    /// Compare with an earlier report; exit with status 3 if a figure worsened by more than 10 %: a net one where both
    /// reports have it, else a ratio
    #[arg(long, value_name = "OLD.json")]
    compare: Option<PathBuf>,
    /// Directory for the report
    #[arg(long, value_name = "DIRECTORY")]
    out: PathBuf,
    /// Measure only this part; print the report instead of writing it
    #[arg(long = "part", value_name = "PART")]
    parts: Vec<Part>,
    /// Measured rounds, without warm-up; at most 5 for parts with long rounds
    #[arg(long, value_parser = clap::value_parser!(u16).range(1..))]
    rounds: Option<u16>,
    /// Measure this XDP program beside the challenge, with the same SYN: an object file and the program's name, or a pin
    /// below /sys/fs/bpf
    #[arg(long = "peer", value_name = "FILE:PROGRAM")]
    peers: Vec<String>,
    /// Commit to name in the report
    #[arg(long, default_value = "unknown")]
    commit: String,
    /// Date to name in the report
    #[arg(long, default_value = "unknown")]
    date: String,
}

/// A part of the benchmark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Part {
    /// Cost per frame
    Frames,
    /// Cost per packet in traffic control
    Tc,
    /// Cost per SYN of a feature, beside the same SYN without it
    Features,
    /// Cost per SYN from many sources to many ports and listeners in turn
    Mixed,
    /// Cost of a policy's verdict and of the guard per SYN
    Actions,
    /// Cost per SYN with many ports, sources, listeners, prefixes, rules and keys
    Growth,
    /// Throughput over veth
    Host,
    /// Latency that TCP Fast Open saves
    Saving,
    /// Key rotation under load
    Rotation,
    /// Legitimate clients during SYN floods
    Floods,
    /// Legitimate clients of a host behind an edge during a SYN flood
    Edge,
    /// Memory, CPU time and start-up time of the controller
    Controller,
}

impl Part {
    fn measure(self, effort: &Effort, peers: &[PeerFile], report: &mut Report) -> Result<Section> {
        match self {
            Self::Frames => frames::section(effort, report),
            Self::Tc => frames::section_of_tc(effort, report),
            Self::Features => within::section(effort, report),
            Self::Mixed => mixed::section(effort, report),
            Self::Actions => actions::section(effort, peers, report),
            Self::Growth => growth::section(effort),
            Self::Host => host::section(&effort.of_long_rounds(), report),
            Self::Saving => saving::section(effort),
            Self::Rotation => rotation::section(effort),
            Self::Floods => floods::section(&effort.of_long_rounds(), report),
            Self::Edge => floods::section_of_edge(&effort.of_long_rounds(), report),
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
    // Read and loaded first: the new report may overwrite the old one, and a mistake is better told before an hour's work.
    let old = arguments.compare.as_ref().map(read).transpose()?;
    let peers = arguments.peers.iter().map(|peer| PeerFile::load(peer));
    let peers = peers.collect::<Result<Vec<_>>>()?;
    let report = measure(&arguments, &peers)?;
    if arguments.parts.is_empty() {
        output::write(&report, &arguments.out)?;
        println!("wrote {}", arguments.out.join("report.md").display());
    } else {
        print!("{}", markdown::page(&report));
    }
    Ok(old.map_or(ExitCode::SUCCESS, |old| compare(&old, &report)))
}

/// Measures all parts, or those that were asked for.
fn measure(arguments: &Arguments, peers: &[PeerFile]) -> Result<Report> {
    let before = quiet::Before::read()?;
    let mut report = Report {
        machine: output::machine(&arguments.commit, &arguments.date, arguments.quick)?,
        ..Report::default()
    };
    report.had("instructions retired", instructions::can_be_counted());
    let effort = arguments.effort();
    for part in Part::value_variants() {
        if arguments.parts.is_empty() || arguments.parts.contains(part) {
            let section = part.measure(&effort, peers, &mut report);
            let section = section.with_context(|| format!("cannot measure {part:?}"))?;
            report.sections.push(section);
        }
    }
    report.machine.quiet = Some(before.until_now()?);
    Ok(report)
}

/// Prints what is slower than in `old`, and gives the exit status.
fn compare(old: &Report, report: &Report) -> ExitCode {
    let slower = compare::slower(old, report);
    if slower.is_empty() {
        println!("no figure worsened by more than 10 %");
        return ExitCode::SUCCESS;
    }
    for compare::Slower {
        name,
        before,
        now,
        net,
    } in slower
    {
        let net = if net { ", net" } else { "" };
        println!("slower: {name}: {before:.2} before, {now:.2} now{net}");
    }
    ExitCode::from(3)
}

/// Reads an earlier `report.json`.
fn read(path: &PathBuf) -> Result<Report> {
    let text = fs::read(path).with_context(|| format!("cannot read {}", path.display()))?;
    serde_json::from_slice(&text).with_context(|| {
        let path = path.display();
        format!("{path} is not a report of this benchmark: create one with `cargo xtask bench`")
    })
}
