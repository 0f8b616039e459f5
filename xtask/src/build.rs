//! `cargo xtask build`: the `tfo` command, which holds the eBPF program.

use std::{env, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, succeed},
    toolchain,
};

/// How to build.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Profile {
    /// Quick to build.
    Dev,
    /// Quick to run.
    Release,
}

impl Profile {
    /// The profile that the flag `--release` asks for.
    pub const fn of(release: bool) -> Self {
        if release { Self::Release } else { Self::Dev }
    }

    /// What cargo calls the profile's folder.
    const fn folder(self) -> &'static str {
        match self {
            Self::Dev => "debug",
            Self::Release => "release",
        }
    }
}

/// Builds `tfo`, and says where it is.
///
/// # Errors
///
/// A piece of the toolchain is missing, or the build fails.
pub fn build(profile: Profile) -> Result<()> {
    let path = tfo(profile)?;
    println!("tfo: built {}", path.display());
    Ok(())
}

/// Builds `tfo`, and gives its path.
///
/// # Errors
///
/// As [`build`].
pub fn tfo(profile: Profile) -> Result<PathBuf> {
    toolchain::find()?;
    let mut cargo = cargo();
    cargo.args(["build", "--package", "tfo-userspace", "--bin", "tfo"]);
    if profile == Profile::Dev {
        cargo.args(["--features", TEST_HOOKS]);
    }
    built(cargo, "tfo", profile)
}

/// The feature of the suites' `tfo`. A released one is without it.
const TEST_HOOKS: &str = "test-hooks";

/// Builds one binary of the workspace, and gives its path.
///
/// # Errors
///
/// The build fails.
pub fn binary(package: &str, name: &str, profile: Profile) -> Result<PathBuf> {
    let mut cargo = cargo();
    cargo.args(["build", "--package", package, "--bin", name]);
    built(cargo, name, profile)
}

/// Runs the build, and gives the path of the binary.
fn built(mut cargo: Command, name: &str, profile: Profile) -> Result<PathBuf> {
    if profile == Profile::Release {
        cargo.arg("--release");
    }
    succeed(&mut cargo)?;
    let path = target()?.join(profile.folder()).join(name);
    path.is_file()
        .then_some(path)
        .with_context(|| format!("cargo built {name} elsewhere than beside this task's folder"))
}

/// Builds an example of a package of the workspace, and gives its path.
///
/// # Errors
///
/// The build fails.
pub fn example(package: &str, name: &str) -> Result<PathBuf> {
    succeed(cargo().args(["build", "--package", package, "--example", name]))?;
    Ok(target()?.join("debug/examples").join(name))
}

/// Cargo's target folder, wherever it is configured to be: this task was built into it as well.
///
/// # Errors
///
/// This task runs from nowhere.
pub fn target() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find out where this task runs from")?;
    let target = own.ancestors().nth(2).context("this task has no folder")?;
    Ok(target.to_owned())
}
