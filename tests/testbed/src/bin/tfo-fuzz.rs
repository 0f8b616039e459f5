//! Random SYNs over veth to real listeners: does `tfo` count what the kernel counts?

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use tfo_common::counters::Counter;
use tfo_testbed::fuzz::{self, Frames, run_frames};

/// Sends random SYNs to real listeners and holds what tfo counts against the kernel. Needs root.
#[derive(Parser)]
struct Arguments {
    /// How many SYNs to send.
    #[arg(long, default_value_t = 100_000)]
    syns: u64,
    /// The seed of the first batch; the next batch has the next one. Any, if it is not given.
    #[arg(long)]
    seed: Option<u64>,
    /// Run the program on so many random frames by itself instead, half of them noise and half spoiled
    /// SYNs.
    #[arg(long, conflicts_with = "syns")]
    frames: Option<usize>,
}

/// How often to say how far it is.
const PROGRESS: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // Short enough to be typed again.
    let seed = arguments.seed.unwrap_or_else(|| fastrand::u64(..1 << 32));
    println!("tfo-fuzz: seed {seed}");
    let start = Instant::now();
    if let Some(frames) = arguments.frames {
        for kind in [Frames::Noise, Frames::SpoiledSyns] {
            let counted = run_frames(kind, seed, frames.div_ceil(2))?;
            println!(
                "tfo-fuzz: {kind:?}: {} SYNs among them",
                counted.get(Counter::Syns)
            );
        }
        println!(
            "tfo-fuzz: {frames} frames in {:.1} s",
            start.elapsed().as_secs_f64()
        );
        return Ok(ExitCode::SUCCESS);
    }
    let mut told = start;
    let report = fuzz::run(seed, arguments.syns, |report| {
        if told.elapsed() >= PROGRESS {
            told = Instant::now();
            println!(
                "tfo-fuzz: {} SYNs in {} s",
                report.syns,
                start.elapsed().as_secs()
            );
        }
    })?;
    let seconds = start.elapsed().as_secs_f64();
    println!(
        "tfo-fuzz: {} SYNs in {seconds:.1} s, {} lost on the wire, {} batches with a race",
        report.syns, report.lost, report.races
    );
    println!("tfo-fuzz: the kernel counted {}", report.kernel);
    let Some(difference) = report.difference else {
        println!("tfo-fuzz: tfo counted the same");
        return Ok(ExitCode::SUCCESS);
    };
    println!("tfo-fuzz: DIFFERENCE: {difference}");
    println!(
        "tfo-fuzz: again: tfo-fuzz --seed {} --syns 1",
        difference.seed
    );
    Ok(ExitCode::FAILURE)
}
