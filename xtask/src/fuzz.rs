//! `cargo xtask fuzz`: random SYNs to real listeners, every counter compared with the kernel's.

use std::{ffi::OsString, process::ExitCode};

use anyhow::Result;

use crate::{
    build::{self, Profile},
    command::{as_root, exit_code, status},
};

/// Builds the release profile and runs the fuzzer as root.
///
/// # Errors
///
/// The build fails, or root cannot be had.
pub fn fuzz(args: &[OsString]) -> Result<ExitCode> {
    build::tfo(Profile::Release)?;
    let fuzz = build::binary("tfo-testbed", "tfo-fuzz", Profile::Release)?;
    Ok(exit_code(status(as_root(fuzz)?.args(args))?))
}
