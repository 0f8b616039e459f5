//! Tools that only `cargo xtask lint` needs.

use std::process::Stdio;

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, output, succeed},
    toolchain::{DEBIAN, OVERRIDE, Toolchain, rustup},
};

use super::{apt::Apt, progress};

/// cargo-deny, of which Debian 12 has no package.
const CARGO_DENY_VERSION: &str = "0.20.2";

/// Installs clippy for a toolchain that lacks it.
///
/// # Errors
///
/// It cannot be installed.
pub fn clippy(toolchain: &Toolchain) -> Result<()> {
    let name = &toolchain.name;
    let mut version = rustup(&["run", name, "cargo", "clippy", "--version"]);
    if output(version.stderr(Stdio::null())).is_some() {
        return Ok(());
    }
    if name == DEBIAN {
        return Apt::new().install(&["rust-web-clippy"]);
    }
    progress(&format!("rustup component add clippy, to {name}"));
    succeed(&mut rustup(&[
        "component",
        "add",
        "clippy",
        "--toolchain",
        name,
    ]))
    .with_context(|| {
        format!("{name}, which builds the eBPF program, has no clippy: name another in {OVERRIDE}")
    })
}

/// Builds cargo-deny if it is missing.
///
/// The unoptimised build takes 130 s of CPU; a check of this workspace takes 1 s.
///
/// # Errors
///
/// The build fails.
pub fn cargo_deny() -> Result<()> {
    let mut version = cargo();
    version.args(["deny", "--version"]).stderr(Stdio::null());
    if output(&mut version).is_some() {
        return Ok(());
    }
    progress(&format!("cargo install cargo-deny {CARGO_DENY_VERSION}"));
    let mut install = cargo();
    install.args(["install", "cargo-deny", "--version", CARGO_DENY_VERSION]);
    install.args(["--locked", "--debug", "--quiet"]);
    succeed(install.env("CARGO_PROFILE_DEV_DEBUG", "false"))
}
