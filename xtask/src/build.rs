//! `cargo xtask build`: the `tfo` command, which holds the eBPF program.

use std::{path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    architecture::Architecture,
    command::{cargo, succeed, target},
    toolchain,
};

/// A cargo profile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Fast to build.
    Dev,
    /// Optimised.
    Release,
}

impl Profile {
    /// The profile that the flag `--release` asks for.
    pub const fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }

    /// The flag that asks cargo for it.
    const fn flag(self) -> Option<&'static str> {
        match self {
            Self::Dev => None,
            Self::Release => Some("--release"),
        }
    }

    /// The profile's folder below the target folder.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds `tfo`, for this machine or another architecture, and prints its path.
///
/// # Errors
///
/// A tool is missing, or the build fails.
pub fn build(profile: Profile, architecture: Option<Architecture>) -> Result<()> {
    let path = tfo_for(architecture, profile)?;
    println!("tfo: built {}", path.display());
    Ok(())
}

/// Builds `tfo` and returns its path.
///
/// # Errors
///
/// As [`build`].
pub fn tfo(profile: Profile) -> Result<PathBuf> {
    tfo_for(None, profile)
}

/// As [`tfo`], for another architecture. Installs the cross tools that are missing.
///
/// # Errors
///
/// As [`build`].
pub fn tfo_for(architecture: Option<Architecture>, profile: Profile) -> Result<PathBuf> {
    toolchain::find()?;
    let mut cargo = cargo_for(architecture, "build")?;
    cargo.args(["--package", "tfo-userspace", "--bin", "tfo"]);
    if profile == Profile::Dev {
        cargo.args(["--features", TEST_HOOKS]);
    }
    cargo.args(profile.flag());
    built(cargo, architecture, "tfo", profile)
}

/// Builds the release profile of `tfo` with the C library inside, position-independent where Rust can (not for arm64), and
/// returns its path, which is that of the other release build.
///
/// # Errors
///
/// As [`build`].
pub fn static_tfo(architecture: Option<Architecture>) -> Result<PathBuf> {
    toolchain::find()?;
    let mut cargo = cargo_for(architecture, "rustc")?;
    cargo.args(["--package", "tfo-userspace", "--bin", "tfo"]);
    cargo.arg("--release");
    // Only the last step: the crates below are compiled the same for both.
    cargo.args(["--", "-C", "target-feature=+crt-static"]);
    built(cargo, architecture, "tfo", Profile::Release)
}

/// The feature of the suites' `tfo`. A released one is without it.
const TEST_HOOKS: &str = "test-hooks";

/// Builds one binary of a package and returns its path.
///
/// # Errors
///
/// The build fails.
pub fn binary(package: &str, name: &str, profile: Profile) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--package", package, "--bin", name]);
    cargo.args(profile.flag());
    built(cargo, None, name, profile)
}

/// A subcommand of cargo, for this machine or another architecture.
///
/// # Errors
///
/// A cross tool is missing and cannot be installed.
pub fn cargo_for(architecture: Option<Architecture>, subcommand: &str) -> Result<Command> {
    if let Some(architecture) = architecture {
        return architecture.cargo(subcommand);
    }
    let mut cargo = cargo();
    cargo.arg(subcommand);
    Ok(cargo)
}

/// Runs the build, and returns the path of the binary.
fn built(
    mut cargo: Command,
    architecture: Option<Architecture>,
    name: &str,
    profile: Profile,
) -> Result<PathBuf> {
    succeed(&mut cargo)?;
    let mut folder = target()?;
    if let Some(foreign) = architecture.filter(|it| it.is_foreign()) {
        folder.push(foreign.target());
    }
    let path = folder.join(profile.folder()).join(name);
    path.is_file()
        .then_some(path)
        .with_context(|| {
            format!("{name} is not in the target folder of this task: run it with the same target folder as cargo")
        })
}

/// Builds an example of a package and returns its path.
///
/// # Errors
///
/// The build fails.
pub fn example(package: &str, name: &str) -> Result<PathBuf> {
    succeed(cargo().args(["build", "--package", package, "--example", name]))?;
    Ok(target()?.join("debug/examples").join(name))
}
