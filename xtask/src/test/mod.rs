//! `cargo xtask test`: the unit tests as whoever asks, the kernel suites as root.
//!
//! [`suite`] builds and lists the tests and selects those to run, [`run`] runs one executable and reads what it
//! writes, [`report`] is the summary. Cargo builds; the executables are started from here, so that only they run
//! under sudo, and all of them run to their end.

mod report;
mod run;
mod suite;

use std::{ffi::OsString, time::Instant};

use anyhow::{Result, ensure};

pub use self::{
    report::{Failure, Report},
    suite::{KERNEL_SUITES, Selected, select},
};
use crate::{
    build::{self, Profile},
    command::{can_be_root, is_root},
    setup,
};

/// What to run.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// A package, a test binary, or a top-level module of a kernel suite's binary; all of them without it.
    pub suite: Option<String>,
    /// Part of the tests' names.
    pub filter: Option<String>,
    /// Arguments of the test binaries, such as `--nocapture` and `--ignored`.
    pub args: Vec<OsString>,
}

/// Runs the tests, and prints the report. A test that fails is in the report, and no error.
///
/// # Errors
///
/// Something is missing and cannot be installed, the build fails, or there are no such tests.
pub fn test(selection: &Selection) -> Result<Report> {
    setup::ensure()?;
    let start = Instant::now();
    build::tfo(Profile::Dev)?;
    let selected = suite::select(selection)?;
    let (privileged, mut run): (Vec<_>, Vec<_>) =
        selected.into_iter().partition(|suite| suite.needs_root());
    let mut report = Report::default();
    if is_root() || can_be_root() {
        run.extend(privileged);
    } else {
        ensure!(
            selection.suite.is_none(),
            "{} needs root, and there is no sudo: run this as root, or install sudo",
            selection.suite.as_deref().unwrap_or_default()
        );
        report.leave_out(&privileged);
    }
    for suite in &run {
        println!("tfo: {suite}");
        report.add(suite.run(&selection.args)?);
    }
    report.took = start.elapsed();
    print!("{report}");
    Ok(report)
}
