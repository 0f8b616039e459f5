//! `cargo xtask lint`: the checks that run no test.

mod clippy;
mod dependencies;
mod imports;

use std::process::Command;

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, repository, succeed},
    setup,
    step::step,
};

/// Checks format, spelling, imports, dependencies, lints and docs.
///
/// # Errors
///
/// A check failed; those after it have not run. Or a tool is missing and cannot be installed.
pub fn lint() -> Result<()> {
    setup::ensure()?;
    step("format", || {
        succeed(cargo().args(["fmt", "--all", "--check"]))
    })?;
    step("spelling", spelling)?;
    step("imports", imports::check)?;
    step("dependencies", dependencies::check)?;
    step("lints", clippy::workspace)?;
    step("lints of each feature", clippy::features)?;
    step("lints for the BPF target", clippy::bpf)?;
    step("docs", || succeed(&mut doc()))
}

/// codespell looks for common misspellings, so that the project needs no dictionary. `.codespellrc` has its
/// exceptions.
fn spelling() -> Result<()> {
    succeed(Command::new("codespell").current_dir(repository()))
        .context("correct the words above, or add them to .codespellrc if they are right")
}

/// The docs as contributors read them, with private items. A broken link is an error.
fn doc() -> Command {
    let mut command = cargo();
    command.args([
        "doc",
        "--workspace",
        "--no-deps",
        "--document-private-items",
    ]);
    command.env(
        "RUSTDOCFLAGS",
        "-D warnings -A rustdoc::private-intra-doc-links",
    );
    command
}
