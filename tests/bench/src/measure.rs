//! The time of a program, under `BPF_PROG_TEST_RUN`.
//!
//! It is the CPU time of the whole system call over its runs: the kernel's own figure is cut to whole
//! nanoseconds, and counts what other processes do meanwhile. It contains what the kernel does around
//! each run, which is most of the empty program's time.

use std::{panic::resume_unwind, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use tfo_testbed::program::PASS;

use crate::report::Sample;

/// How long everything is measured.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds that are kept.
    pub(crate) rounds: usize,
    /// As many of a part whose rounds take long: see [`Effort::of_long_rounds`].
    pub(crate) long_rounds: usize,
    /// Runs of each program on each frame in a round.
    pub(crate) runs: u32,
    /// How long each load of the whole host lasts in a round.
    pub(crate) load: Duration,
    /// Rounds of floods, which take long.
    pub(crate) floods: usize,
    /// How often keys are rotated.
    pub(crate) rotations: u32,
    /// How long the idle controller is watched in a round.
    pub(crate) idle: Duration,
}

impl Effort {
    /// The same for a part whose rounds take long.
    pub(crate) fn of_long_rounds(self) -> Self {
        Self {
            rounds: self.long_rounds,
            ..self
        }
    }
}

/// Nanoseconds for one run of each program on a frame; the second one goes first in every other round.
pub(crate) fn pair(programs: [&Xdp; 2], frame: &[u8], runs: u32, round: usize) -> Result<Sample> {
    let [yardstick, subject] = programs;
    let before = round
        .is_multiple_of(2)
        .then(|| time(subject, frame, runs))
        .transpose()?;
    let yardstick = time(yardstick, frame, runs)?;
    let subject = before.map_or_else(|| time(subject, frame, runs), Ok)?;
    Ok(Sample { yardstick, subject })
}

/// Nanoseconds for one run of a program.
pub(crate) fn time(program: &Xdp, frame: &[u8], runs: u32) -> Result<f64> {
    time_with(program, frame, runs, PASS)
}

/// As [`time`], of a program that ends with this verdict.
pub(crate) fn time_with(program: &Xdp, frame: &[u8], runs: u32, ends: u32) -> Result<f64> {
    let start = cpu_time()?;
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        repeat: runs,
        ..TestRunOptions::default()
    })?;
    let took = cpu_time()?.saturating_sub(start);
    let verdict = result.return_value;
    ensure!(verdict == ends, "verdict {verdict}");
    Ok(took.as_secs_f64() * 1e9 / f64::from(runs))
}

/// The time that a CPU has worked for this thread.
fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

/// Keeps the calling thread on one CPU.
///
/// # Errors
///
/// Where there is no such CPU.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).context("cannot stay on one CPU")
}

/// The last CPU.
pub(crate) fn last_cpu() -> usize {
    thread::available_parallelism().map_or(0, |cores| cores.get() - 1)
}

/// Does `work` in a thread of its own that stays on the first CPU: whoever calls this stays on none.
///
/// # Errors
///
/// As `work`.
pub(crate) fn on_first_cpu<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let thread = || stay_on(0).and_then(|()| work());
    thread::scope(|scope| scope.spawn(thread).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Says what is being done.
pub(crate) fn progress(what: &str, round: usize, effort: &Effort) {
    match round {
        0 => println!("{what}: warming up"),
        _ => println!("{what}: round {round} of {}", effort.rounds),
    }
}
