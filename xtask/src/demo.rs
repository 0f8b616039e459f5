//! `cargo xtask demo`: the demonstration, from a fresh clone.

use std::process::ExitCode;

use anyhow::Result;

use crate::{
    build::{self, Profile},
    command::{as_root, exit_code, status},
    setup,
};

/// Installs what is missing, builds, and runs the demonstration as root.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or root cannot be had.
pub fn demo() -> Result<ExitCode> {
    setup::ensure()?;
    println!("tfo: building; the first time takes a minute or two");
    build::tfo(Profile::Dev)?;
    let demo = build::binary("tfo-testbed", "tfo-demo", Profile::Dev)?;
    Ok(exit_code(status(&mut as_root(demo)?)?))
}
