//! `cargo xtask ci`: all checks that a change must pass.

use std::{
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::{Result, bail, ensure};

use crate::{
    architecture::Architecture,
    demo, lint, setup,
    step::step,
    test::{self, Report, Selection},
    vm::{self, Plan},
};

/// The oldest supported kernel, and the suite with each feature once.
const OLDEST: &str = "6.1";
const FEATURES: &str = "kernels";
/// Time limit of a guest: about 7 minutes without KVM on an idle machine.
const LIMIT: Duration = Duration::from_secs(25 * 60);

/// Lints, tests, the demonstration and the oldest kernel.
///
/// # Errors
///
/// A step failed; those after it have not run. A test that fails stops no step: the report of the tests is printed
/// last.
pub fn ci() -> Result<ExitCode> {
    let start = Instant::now();
    step("setup", setup::ensure)?;
    lint::lint()?;
    let mut tests = Report::default();
    step("tests", || {
        tests = test::test(&Selection::default())?;
        ensure!(tests.left_out.is_empty(), "the kernel suites need root");
        Ok(())
    })?;
    step("demo", || {
        if demo::demo()? != ExitCode::SUCCESS {
            bail!("the demonstration failed: see the lines above");
        }
        Ok(())
    })?;
    // Guests are x86_64 machines, and run binaries built for this one.
    if cfg!(target_arch = "x86_64") {
        step("Linux 6.1", oldest_kernel)?;
    }
    let seconds = start.elapsed().as_secs();
    let (code, outcome) = if tests.is_success() {
        (ExitCode::SUCCESS, "all passed")
    } else {
        (ExitCode::FAILURE, "tests failed")
    };
    println!("tfo: ci: {outcome} in {seconds} s");
    print!("{tests}");
    Ok(code)
}

/// Each feature once on the oldest kernel.
fn oldest_kernel() -> Result<()> {
    let plan = Plan {
        architecture: Architecture::Amd64,
        series: vec![OLDEST.into()],
        suites: vec![FEATURES.into()],
        limit: LIMIT,
        table: false,
    };
    if vm::vm(&plan)? != ExitCode::SUCCESS {
        bail!("a feature fails on the oldest kernel: see the lines above");
    }
    Ok(())
}
