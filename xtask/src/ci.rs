//! `cargo xtask ci`: all that a change has to pass.

use std::{
    process::{Command, ExitCode},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};

use crate::{
    command::{cargo, succeed},
    demo, setup,
    test::{self, Report, Selection},
    vm::{self, Plan},
};

/// The oldest kernel that is supported; and the suite that has each feature once.
const OLDEST: &str = "6.1";
const FEATURES: &str = "kernels";
/// How long that may take: without KVM it is some 5 minutes on a machine that does nothing else.
const LIMIT: Duration = Duration::from_secs(12 * 60);

/// Format, lints, docs, tests, the demonstration and the oldest kernel, each with the time it took.
///
/// # Errors
///
/// A step failed; those after it are not run. A test that fails stops no step: the report of the tests is the last
/// that is printed.
pub fn ci() -> Result<ExitCode> {
    let start = Instant::now();
    step("setup", setup::ensure)?;
    step("format", || {
        succeed(cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("lints", || succeed(&mut clippy()))?;
    step("docs", || succeed(&mut doc()))?;
    let mut tests = Report::default();
    step("tests", || {
        tests = test::test(&Selection::default())?;
        ensure!(tests.left_out.is_empty(), "the kernel suites need root");
        Ok(())
    })?;
    step("demo", || {
        if demo::demo()? != ExitCode::SUCCESS {
            bail!("the demonstration found something wrong");
        }
        Ok(())
    })?;
    // Guests are x86_64 machines, and run what was built for this one.
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
        series: vec![OLDEST.into()],
        suites: vec![FEATURES.into()],
        limit: LIMIT,
        table: false,
    };
    if vm::vm(&plan)? != ExitCode::SUCCESS {
        bail!("a feature does not work there: the lines above say which");
    }
    Ok(())
}

/// Runs one step, and says how long it took.
fn step(name: &'static str, step: impl FnOnce() -> Result<()>) -> Result<()> {
    println!("tfo: ci: {name}");
    let start = Instant::now();
    step().context(name)?;
    println!("tfo: ci: {name}: {:.1} s", start.elapsed().as_secs_f32());
    Ok(())
}

/// The lints, over everything: the eBPF program too, as an ordinary program of this host.
fn clippy() -> Command {
    let mut command = cargo();
    command.args(["clippy", "--workspace", "--all-targets"]);
    command.args(["--", "-D", "warnings"]);
    command
}

/// The docs as contributors read them, private items and all. A broken link is an error.
fn doc() -> Command {
    let mut command = cargo();
    command.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    command.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private-intra-doc-links",
    );
    command
}
