//! `cargo xtask run`: `tfo` itself, as root.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    command::as_root,
};

/// Builds `tfo`, and becomes `tfo ARGS`: its exit status and the signals it gets are its own.
///
/// # Errors
///
/// The build fails, or `tfo` cannot be started as root.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let tfo = build::tfo(Profile::Dev)?;
    let error = as_root(&tfo)?.args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", tfo.display()))
}
