//! `cargo xtask demo`: `tfo demo`, from a fresh clone.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build::{self, Profile},
    command::{as_root, exit_code, status},
    setup,
};

/// Installs what is missing, builds `tfo`, and runs its demonstration as root.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or root cannot be had.
pub fn demo() -> Result<ExitCode> {
    setup::ensure()?;
    println!("tfo: building; the first time takes a minute or two");
    let tfo = build::tfo(Profile::Dev)?;
    Ok(exit_code(status(as_root(tfo)?.arg("demo"))?))
}
