//! Cost of a program's run, by `BPF_PROG_TEST_RUN`.
//!
//! CPU time of the system call divided by its runs. The kernel's own `duration` is truncated to whole nanoseconds and
//! includes preemption. The result includes the kernel's overhead per run, which is most of the empty program's time.

use std::{io::ErrorKind, panic::resume_unwind, thread, time::Duration};

use anyhow::{Context as _, Result, ensure};
use aya::{
    programs::{ProgramError, SchedClassifier, TestRun as _, TestRunOptions, TestRunResult, Xdp},
    sys::SyscallError,
};
use rustix::{
    thread::{CpuSet, sched_setaffinity},
    time::{ClockId, clock_gettime},
};
use tfo_testbed::program::PASS;

use crate::{instructions, net::Cost};

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

/// The hook at which a program sees a frame.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Hook {
    Xdp,
    /// Traffic control.
    Tc,
}

impl Hook {
    /// The verdict with which a frame goes on: `XDP_PASS`, `TCX_NEXT`.
    pub(crate) const fn passes(self) -> u32 {
        match self {
            Self::Xdp => PASS,
            Self::Tc => u32::MAX,
        }
    }

    /// The verdict with which a frame goes back: `XDP_TX`, `TCX_REDIRECT`.
    pub(crate) const fn sends_back(self) -> u32 {
        match self {
            Self::Xdp => 3,
            Self::Tc => 7,
        }
    }
}

/// A loaded program.
#[derive(Clone, Copy)]
pub(crate) enum Program<'a> {
    Xdp(&'a Xdp),
    Tc(&'a SchedClassifier),
}

impl Program<'_> {
    pub(crate) const fn hook(self) -> Hook {
        match self {
            Self::Xdp(_) => Hook::Xdp,
            Self::Tc(_) => Hook::Tc,
        }
    }

    /// Runs it once on `frame`. Returns the verdict.
    pub(crate) fn verdict(self, frame: &[u8]) -> Result<u32> {
        Ok(self.run(frame, 1)?.return_value)
    }

    /// Runs it `repeat` times on `frame`.
    fn run(self, frame: &[u8], repeat: u32) -> Result<TestRunResult, ProgramError> {
        let options = TestRunOptions {
            data_in: Some(frame),
            repeat,
            ..TestRunOptions::default()
        };
        match self {
            Self::Xdp(program) => program.test_run(options),
            Self::Tc(program) => program.test_run(options),
        }
    }
}

/// A program to measure, its frame, and the verdict that shows that the program did its work.
#[derive(Clone, Copy)]
pub(crate) struct Measured<'a> {
    program: Program<'a>,
    frame: &'a [u8],
    verdict: u32,
}

impl<'a> Measured<'a> {
    pub(crate) const fn new(program: Program<'a>, frame: &'a [u8], verdict: u32) -> Self {
        Self {
            program,
            frame,
            verdict,
        }
    }

    /// One that lets the frame pass.
    pub(crate) const fn passing(program: Program<'a>, frame: &'a [u8]) -> Self {
        Self::new(program, frame, program.hook().passes())
    }

    /// Mean cost of `runs` runs.
    pub(crate) fn cost(self, runs: u32) -> Result<Cost> {
        loop {
            match self.uninterrupted(runs) {
                Err(error) if is_interrupted(&error) => {}
                done => return done,
            }
        }
    }

    fn uninterrupted(self, runs: u32) -> Result<Cost> {
        let retired = instructions::retired();
        let start = cpu_time()?;
        let result = self.program.run(self.frame, runs)?;
        let took = cpu_time()?.saturating_sub(start);
        let retired = instructions::retired().zip(retired);
        let (verdict, expected) = (result.return_value, self.verdict);
        ensure!(
            verdict == expected,
            "verdict {verdict} instead of {expected}"
        );
        let runs = f64::from(runs);
        Ok(Cost {
            nanoseconds: took.as_secs_f64() * 1e9 / runs,
            instructions: retired.map(|(after, before)| (after - before) as f64 / runs),
        })
    }
}

/// A signal ended the runs early, such as one that stops the process for a while.
fn is_interrupted(error: &anyhow::Error) -> bool {
    matches!(
        error.downcast_ref(),
        Some(ProgramError::SyscallError(SyscallError { io_error, .. }))
            if io_error.kind() == ErrorKind::Interrupted
    )
}

/// Turns per round.
const TURNS: u32 = 5;

/// Costs of one round of `runs` runs each. The programs run in [`TURNS`] turns, another one first in each, and the least of
/// the turns counts: what else the machine does only adds to it.
pub(crate) fn in_turns<const N: usize>(
    measured: [Measured<'_>; N],
    runs: u32,
    round: usize,
) -> Result<[Cost; N]> {
    let mut least: [Option<Cost>; N] = [None; N];
    for turn in 0..TURNS as usize {
        for index in 0..N {
            let index = (index + turn + round) % N;
            let cost = measured[index].cost(runs.div_ceil(TURNS))?;
            least[index] = Some(least[index].map_or(cost, |least| least.least(cost)));
        }
    }
    Ok(least.map(|cost| cost.expect("there is a turn")))
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
