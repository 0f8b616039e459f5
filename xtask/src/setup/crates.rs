//! Tools from crates.io that single tasks need: lint, dist, site.

use std::{env, path::PathBuf, process::Stdio};

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, output, succeed, which},
    step::progress,
    toolchain::{DEBIAN, OVERRIDE, Toolchain, rustup},
};

use super::apt::Apt;

/// cargo-deny, of which Debian 12 has no package.
const CARGO_DENY_VERSION: &str = "0.20.2";
/// cargo-cyclonedx, which lists what is in the program.
const CARGO_CYCLONEDX_VERSION: &str = "0.5.9";
/// mdbook, which makes the site.
const MDBOOK_VERSION: &str = "0.5.4";

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
    crate_tool("cargo-deny", CARGO_DENY_VERSION, &[])
}

/// Builds cargo-cyclonedx if it is missing.
///
/// # Errors
///
/// The build fails.
pub fn cargo_cyclonedx() -> Result<()> {
    crate_tool("cargo-cyclonedx", CARGO_CYCLONEDX_VERSION, &[])
}

/// Builds mdbook if it is missing, without its server.
///
/// # Errors
///
/// The build fails.
pub fn mdbook() -> Result<()> {
    let features = ["--no-default-features", "--features", "search"];
    crate_tool("mdbook", MDBOOK_VERSION, &features)
}

/// Builds a program from crates.io without optimisation, if it is missing.
fn crate_tool(name: &str, version: &str, features: &[&str]) -> Result<()> {
    if installed(name).is_some() {
        return Ok(());
    }
    progress(&format!("cargo install {name} {version}"));
    let mut install = cargo();
    install.args(["install", name, "--version", version]);
    install
        .args(["--locked", "--debug", "--quiet"])
        .args(features);
    succeed(install.env("CARGO_PROFILE_DEV_DEBUG", "false"))
}

/// The path of a program that cargo installed.
///
/// It need not be in `PATH`: cargo finds its own subcommands without.
pub fn installed(name: &str) -> Option<PathBuf> {
    which(name).or_else(|| {
        let home = env::var_os("CARGO_HOME")
            .map(PathBuf::from)
            .or_else(|| Some(env::home_dir()?.join(".cargo")))?;
        Some(home.join("bin").join(name)).filter(|path| path.is_file())
    })
}
