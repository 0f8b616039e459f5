//! `cargo xtask run`: `tfo` itself, as root.

use std::{ffi::OsString, os::unix::process::CommandExt as _, process::ExitCode};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    command::as_root,
};

/// Builds `tfo` and replaces this process by `tfo ARGS`, so that signals and the exit status are `tfo`'s.
///
/// # Errors
///
/// The build fails, or `tfo` cannot be started as root.
pub fn run(args: &[OsString]) -> Result<ExitCode> {
    let tfo = build::tfo(Profile::Dev)?;
    let error = as_root(&tfo)?.args(args).exec();
    Err(error).with_context(|| format!("cannot start {}", tfo.display()))
}
