//! `cargo xtask fuzz`: random SYNs to real listeners.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;

use crate::{
    build::{self, Profile},
    command::{as_root, exit_code, status},
};

/// Builds with optimisations, and runs the fuzzer as root.
///
/// # Errors
///
/// The build fails, or there is no way to be root.
pub fn fuzz(args: &[OsString]) -> Result<ExitCode> {
    build::tfo(Profile::Release)?;
    let fuzz = build::binary("tfo-testbed", "tfo-fuzz", Profile::Release)?;
    Ok(exit_code(status(as_root(fuzz)?.args(args))?))
}
