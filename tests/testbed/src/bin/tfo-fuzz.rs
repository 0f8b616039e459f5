//! Differential fuzzer: random SYNs over veth to kernel listeners; compares the counters of `tfo` with the kernel's.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::Result;
use clap::Parser;
use tfo_common::counters::Counter;
use tfo_testbed::fuzz::{self, Frames, run_frames};

/// Send random SYNs to listeners and compare the counters of tfo with the kernel's. Needs root.
#[derive(Parser)]
struct Arguments {
    /// Number of SYNs to send.
    #[arg(long, default_value_t = 100_000)]
    syns: u64,
    /// Seed of the first batch; each further batch adds one. Random by default.
    #[arg(long)]
    seed: Option<u64>,
    /// Instead, run the program alone with `BPF_PROG_TEST_RUN` on this many random frames: half noise, half corrupted
    /// SYNs.
    #[arg(long, conflicts_with = "syns")]
    frames: Option<usize>,
}

/// Interval of progress messages.
const PROGRESS: Duration = Duration::from_secs(10);

fn main() -> Result<ExitCode> {
    let arguments = Arguments::parse();
    // 32 bits, short enough to retype.
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
        "tfo-fuzz: reproduce: tfo-fuzz --seed {} --syns 1",
        difference.seed
    );
    Ok(ExitCode::FAILURE)
}
