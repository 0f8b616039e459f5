//! `cargo xtask dist`: a Debian package of `tfo`.
//!
//! [`tree`] lays out the files as they are installed, [`package`] packs them with Debian's tools, [`check`] installs,
//! runs and purges the package in a clean system. The package is reproducible: the same commit, toolchain and folder
//! give the same bytes.

mod check;
mod package;
mod tree;

use std::{env, fs, path::PathBuf, process::Command};

use anyhow::{Context as _, Result, ensure};

use crate::{
    build::{self, Profile},
    command::{output, repository},
    setup,
};

/// Programs that make a package, and their Debian packages.
const TOOLS: [(&str, &str); 4] = [
    ("dpkg-deb", "dpkg"),
    ("dpkg-shlibdeps", "dpkg-dev"),
    ("gzip", "gzip"),
    ("strip", "binutils"),
];

/// Builds the release profile and makes `target/dist/tfo_VERSION_ARCHITECTURE.deb`. With `check`, checks the package
/// with lintian, systemd and a clean system, as root.
///
/// # Errors
///
/// A tool is missing and cannot be installed, the build fails, or a check does.
pub fn dist(check: bool) -> Result<()> {
    setup::programs(&TOOLS)?;
    let binary = build::tfo(Profile::Release)?;
    ensure!(
        !has_test_hooks(&fs::read(&binary)?),
        "{} heeds the environment variables of tests: it was built with the feature test-hooks",
        binary.display()
    );
    let manpages = build::example("tfo-userspace", "manpages")?;
    let folder = build::target()?.join("dist");
    fs::create_dir_all(&folder)?;
    let make = |name: &str| -> Result<PathBuf> {
        let tree = folder.join(name);
        tree::lay_out(&tree, &binary, &manpages)?;
        package::make(&tree, &folder)
    };
    let package = make("tree")?;
    println!("tfo: made {}", package.display());
    if check {
        let bytes = fs::read(&package)?;
        let again = make("again")?;
        ensure!(
            fs::read(again)? == bytes,
            "two packages of the same files differ: the package is not reproducible"
        );
        check::check(&package, &folder)?;
    }
    Ok(())
}

/// `true` if a binary names an environment variable of the suites.
fn has_test_hooks(binary: &[u8]) -> bool {
    let prefix = b"TFO_TEST_";
    binary.windows(prefix.len()).any(|bytes| bytes == prefix)
}

/// The modification time of the package's files, in seconds since 1970: `SOURCE_DATE_EPOCH`, else the commit's time.
fn epoch() -> Result<String> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(repository());
    output(&mut git).context("git cannot show the commit's time: set SOURCE_DATE_EPOCH")
}
