//! `cargo xtask dist`: a Debian package of `tfo`.
//!
//! [`tree`] lays the files out as a system has them, [`package`] makes a package of them with Debian's own
//! tools, [`check`] installs, runs and purges it in a clean system. The package is the same, byte for byte,
//! for the same commit, toolchain and folder.

mod check;
mod package;
mod tree;

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result};

use crate::{
    build::{self, Profile},
    command::{output, repository},
    setup,
};

/// The programs that packing takes, and the packages that have them.
const TOOLS: [(&str, &str); 4] = [
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("gzip", "gzip"),
    ("strip", "binutils"),
];

/// Builds with optimisations, and makes `target/dist/tfo_VERSION_ARCHITECTURE.deb`. With `check`, holds the
/// package against lintian, systemd and a clean system, as root.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or the check finds something.
pub fn dist(check: bool) -> Result<()> {
    setup::programs(&TOOLS)?;
    let binary = build::tfo(Profile::Release)?;
    let manpages = build::example("tfo-userspace", "manpages")?;
    let place = build::target()?.join("dist");
    fs::create_dir_all(&place)?;
    let make = |name: &str| -> Result<PathBuf> {
        let tree = place.join(name);
        tree::lay_out(&tree, &binary, &manpages)?;
        package::make(&tree, &place)
    };
    let package = make("tree")?;
    println!("tfo: made {}", package.display());
    if check {
        let bytes = fs::read(&package)?;
        let again = make("again")?;
        anyhow::ensure!(
            fs::read(again)? == bytes,
            "the same files gave another package: it is not reproducible"
        );
        check::check(&package, &place)?;
    }
    Ok(())
}

/// The time that the package's files bear, in seconds since 1970: `SOURCE_DATE_EPOCH`, or the commit's.
fn epoch() -> Result<String> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(repository());
    output(&mut git).context("git does not tell the commit's time: set SOURCE_DATE_EPOCH")
}
