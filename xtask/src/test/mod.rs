//! `cargo xtask test`: the unit tests as the calling user, the kernel suites as root.
//!
//! [`suite`] builds the tests, lists them and selects those to run, [`run`] runs one executable and parses its
//! output, [`report`] is the summary. Cargo only builds: the tasks start the executables, so that only these run
//! under sudo, and all run to their end.

mod report;
mod run;
mod suite;

use std::time::Instant;

use anyhow::{Result, ensure};

pub use self::{
    report::{Failure, Report},
    suite::{KERNEL_SUITES, Selected, Selection, select},
};
use crate::{
    build::{self, Profile},
    command::{can_be_root, is_root},
    setup,
};

/// Runs the tests and prints the report. A test that fails is in the report, not an error.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or no test matches.
pub fn test(selection: &Selection) -> Result<Report> {
    setup::ensure()?;
    let start = Instant::now();
    build::tfo(Profile::Dev)?;
    let selected = suite::select(selection)?;
    let (privileged, mut run): (Vec<_>, Vec<_>) =
        selected.into_iter().partition(suite::Selected::needs_root);
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
        report.add(suite, suite.run(&selection.args)?);
    }
    report.took = start.elapsed();
    print!("{report}");
    Ok(report)
}
