//! `cargo xtask setup`: what the build and the tests need, installed where it is missing.
//!
//! [`survey`] looks and changes nothing. [`apt`] installs packages, [`ebpf`] gets the toolchain and
//! the linker of the eBPF program, [`prometheus`] what the tests of the metrics ask, [`lints`] what only
//! `cargo xtask lint` needs. The C compiler that links this very task must have been there before.

mod apt;
mod ebpf;
mod lints;
mod prometheus;
mod survey;

use std::process::ExitCode;

use anyhow::Result;

use crate::command::which;

pub use self::lints::{cargo_deny, clippy};
use self::{apt::Apt, survey::Survey};

/// Prints what is there and what will be done, and does it.
///
/// # Errors
///
/// Something is missing and cannot be installed.
pub fn setup() -> Result<()> {
    let survey = Survey::new()?;
    survey.print();
    install(&survey)
}

/// The same without a word where nothing is missing.
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

/// Only prints what is there. The exit status is 1 if something is missing.
///
/// # Errors
///
/// There is no rustup to ask.
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

/// Installs the packages of those programs that are not there, given as program and package.
///
/// # Errors
///
/// One cannot be installed.
pub fn programs(wanted: &[(&str, &str)]) -> Result<()> {
    let missing = wanted
        .iter()
        .filter(|(program, _)| which(program).is_none());
    let packages: Vec<_> = missing.map(|(_, package)| *package).collect();
    Apt::new().install(&packages)
}

/// Installs what the survey did not find.
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

/// Says what is being done.
fn progress(what: &str) {
    println!("tfo: {what}");
}
