//! Run time of a program, by `BPF_PROG_TEST_RUN`.
//!
//! CPU time of the system call divided by its runs. The kernel's own `duration` is truncated to whole nanoseconds and
//! includes preemption. The result includes the kernel's overhead per run, which is most of the empty program's time.

use std::{panic::resume_unwind, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions, Xdp};
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use tfo_testbed::program::PASS;

use crate::report::Sample;

/// Rounds, runs and durations.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Effort {
    /// Rounds, without warm-up.
    pub(crate) rounds: usize,
    /// Rounds of a part with long rounds: see [`Effort::of_long_rounds`].
    pub(crate) long_rounds: usize,
    /// Runs of each program per frame and round.
    pub(crate) runs: u32,
    /// Duration of each load or flood per round.
    pub(crate) load: Duration,
    /// Maximum of rounds for floods.
    pub(crate) floods: usize,
    /// Key rotations.
    pub(crate) rotations: u32,
    /// Observation time of the idle controller per round.
    pub(crate) idle: Duration,
}

impl Effort {
    /// The same with `long_rounds` as `rounds`.
    pub(crate) fn of_long_rounds(self) -> Self {
        Self {
            rounds: self.long_rounds,
            ..self
        }
    }
}

/// Nanoseconds per run of both programs (baseline, subject). The order alternates between rounds.
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

/// Nanoseconds per run of a program that returns `XDP_PASS`.
pub(crate) fn time(program: &Xdp, frame: &[u8], runs: u32) -> Result<f64> {
    time_with(program, frame, runs, PASS)
}

/// As [`time`], for a program that returns the verdict `ends`.
pub(crate) fn time_with(program: &Xdp, frame: &[u8], runs: u32, ends: u32) -> Result<f64> {
    let start = cpu_time()?;
    let result = program.test_run(TestRunOptions {
        data_in: Some(frame),
        repeat: runs,
        ..TestRunOptions::default()
    })?;
    let took = cpu_time()?.saturating_sub(start);
    let verdict = result.return_value;
    ensure!(verdict == ends, "XDP verdict {verdict} instead of {ends}");
    Ok(took.as_secs_f64() * 1e9 / f64::from(runs))
}

/// CPU time of the calling thread.
pub(crate) fn cpu_time() -> Result<Duration> {
    Ok(clock_gettime(ClockId::ThreadCPUTime).try_into()?)
}

/// Pins the calling thread to a CPU.
pub(crate) fn stay_on(cpu: usize) -> Result<()> {
    let mut cpus = CpuSet::new();
    cpus.set(cpu);
    sched_setaffinity(None, &cpus).with_context(|| format!("cannot pin the thread to CPU {cpu}"))
}

/// Index of the last CPU.
pub(crate) fn last_cpu() -> usize {
    thread::available_parallelism().map_or(0, |cores| cores.get() - 1)
}

/// Runs `work` in a thread pinned to the first CPU; the caller's affinity does not change.
pub(crate) fn on_first_cpu<T: Send>(work: impl FnOnce() -> Result<T> + Send) -> Result<T> {
    let thread = || stay_on(0).and_then(|()| work());
    thread::scope(|scope| scope.spawn(thread).join()).unwrap_or_else(|panic| resume_unwind(panic))
}

/// Prints the current round.
pub(crate) fn progress(what: &str, round: usize, effort: &Effort) {
    match round {
        0 => println!("{what}: warming up"),
        _ => println!("{what}: round {round} of {}", effort.rounds),
    }
}
