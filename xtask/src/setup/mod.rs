//! `cargo xtask setup`: installs missing tools that the build and the tests need.
//!
//! [`survey`] finds missing tools and changes nothing. [`apt`] installs packages, [`ebpf`] the toolchain and the
//! linker of the eBPF program, [`prometheus`] the server for the tests of the metrics, [`crates`] and [`python()`]
//! the tools of single tasks. A C compiler is needed earlier, to link this task itself.

mod apt;
mod crates;
mod ebpf;
mod prometheus;
mod python;
mod survey;

use std::{
    path::PathBuf,
    process::{Command, ExitCode, Stdio},
};

use anyhow::Result;

use crate::command::{output, which};

pub use self::crates::{cargo_cyclonedx, cargo_deny, clippy, installed, mdbook};
pub use self::python::python;
use self::{apt::Apt, survey::Survey};

/// Prints the tools found and missing, and installs the missing ones.
///
/// # Errors
///
/// A tool is missing and cannot be installed.
pub fn setup() -> Result<()> {
    let survey = Survey::new()?;
    survey.print();
    install(&survey)
}

/// As [`setup`], but prints nothing if nothing is missing.
///
/// # Errors
///
/// As [`setup`].
pub fn ensure() -> Result<()> {
    let survey = Survey::new()?;
    if !survey.complete() {
        survey.print();
        install(&survey)?;
    }
    Ok(())
}

/// Prints the tools found and missing. The exit status is 1 if any is missing.
///
/// # Errors
///
/// rustup is missing.
pub fn check() -> Result<ExitCode> {
    let survey = Survey::new()?;
    survey.print();
    if survey.complete() {
        println!("tfo: nothing is missing");
        Ok(ExitCode::SUCCESS)
    } else {
        println!("tfo: something is missing: run `cargo xtask setup`");
        Ok(ExitCode::FAILURE)
    }
}

/// Installs the packages of missing programs. Each pair is a program and its package.
///
/// # Errors
///
/// A package cannot be installed.
pub fn programs(wanted: &[(&str, &str)]) -> Result<()> {
    let missing = wanted
        .iter()
        .filter(|(program, _)| which(program).is_none());
    let packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    Apt::new().install(&packages)
}

/// Installs a package that has no program of its own to look for.
///
/// # Errors
///
/// It cannot be installed.
pub fn package(name: &str) -> Result<()> {
    let mut query = Command::new("dpkg-query");
    query.args(["--show", "--showformat=${Status}", name]);
    if output(query.stderr(Stdio::null())).is_some_and(|status| status.ends_with(" installed")) {
        return Ok(());
    }
    Apt::new().install(&[name])
}

/// promtool, of the system or unpacked by [`setup()`].
pub fn promtool() -> Option<PathBuf> {
    Some(prometheus::find()?.join("promtool"))
}

/// Installs what the survey found missing.
fn install(survey: &Survey) -> Result<()> {
    if survey.complete() {
        println!("tfo: nothing is missing");
        return Ok(());
    }
    let mut apt = Apt::new();
    apt.install(&survey.missing_packages())?;
    let toolchain = ebpf::toolchain(&mut apt)?;
    ebpf::linker(&mut apt, &toolchain)?;
    prometheus::install(&mut apt)?;
    println!("tfo: setup is done");
    Ok(())
}
