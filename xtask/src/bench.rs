//! `cargo xtask bench`: what the data path costs.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;

use crate::{
    build::{self, Profile},
    command::{as_root, exit_code, status},
};

/// Builds with optimisations, and runs the benchmark as root.
///
/// # Errors
///
/// The build fails, or there is no way to be root.
pub fn bench(args: &[OsString]) -> Result<ExitCode> {
    build::tfo(Profile::Release)?;
    let bench = build::binary("tfo-tests", "tfo-bench", Profile::Release)?;
    Ok(exit_code(status(as_root(bench)?.args(args))?))
}
