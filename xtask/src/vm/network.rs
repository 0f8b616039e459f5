//! Tests on this machine for which a guest with network devices is another machine, of another kernel.

use std::{
    process::{Command, ExitCode},
    time::Instant,
};

use anyhow::Result;

use super::{
    debian,
    guests::Guests,
    suites,
    table::{self, Features},
};
use crate::{
    architecture::Architecture,
    build::{self, Profile},
    command::repository,
    setup,
};

/// What the guest is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// A router, which challenges for hosts on this machine.
    Edge,
    /// A server with several network devices, whose clients are on this machine.
    Drivers,
}

impl Role {
    /// The suite, and a part of its tests' names.
    const fn tests(self) -> &'static str {
        match self {
            Self::Edge => "guests/edge",
            Self::Drivers => "guests/drivers",
        }
    }
}

/// The arguments of the task for the table of drivers, and the file in a kernel's folder with what the tests report.
const TABLE: &str = "--drivers";
const FEATURES: &str = "drivers";

/// Runs the tests with a guest of each kernel, or with the default ones if `named` is empty.
///
/// # Errors
///
/// A tool is missing and cannot be installed, or the build fails.
pub fn test(role: Role, named: &[String], table: bool) -> Result<ExitCode> {
    setup::ensure()?;
    let architecture = Architecture::Amd64;
    let tfo = build::tfo_for(None, Profile::Dev)?;
    let guests = Guests::of(architecture)?;
    let suites = suites::chosen(&[role.tests().to_owned()], None)?;
    let suites = suites::copies(&tfo, suites, &guests.folder.join("bin"))?;
    let mut code = ExitCode::SUCCESS;
    for series in debian::chosen(architecture, named) {
        let kernel = guests.kernel(series)?;
        let boots = guests.boots(&kernel)?;
        let mut features = Features::of(&kernel.release);
        let start = Instant::now();
        for suite in &suites {
            let with = |command: &mut Command| {
                command.arg("--ignored");
                command.env("TFO_GUEST", &boots).env("TFO_PATIENCE", "20");
            };
            let passed = suite.run(with, |line| features.read(line))?;
            let said = if passed { "passed" } else { "failed" };
            let seconds = start.elapsed().as_secs();
            println!("tfo: vm: Linux {}: {said} in {seconds} s", kernel.release);
            if !passed {
                code = ExitCode::FAILURE;
            } else if role == Role::Drivers {
                features.save(&guests.folder.join(series).join(FEATURES))?;
            }
        }
    }
    if table && code == ExitCode::SUCCESS {
        let kernels = Features::all_saved(architecture, &guests.folder, FEATURES)?;
        table::write(TABLE, &kernels, &repository().join("docs/reference.md"))?;
    }
    Ok(code)
}
