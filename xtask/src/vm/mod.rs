//! `cargo xtask vm`: the kernel suites on Debian's kernels, under QEMU.
//!
//! A guest mounts this machine's file system read-only, with an overlay in memory: tests and tools are the same, only
//! the kernel differs. One of another architecture has a Debian of its own in place of this machine's, and tests that
//! were cross-built.
//!
//! [`network`] turns it round: tests run on this machine, and a guest with network devices is another machine for them.

mod debian;
mod guest;
mod guests;
mod initramfs;
pub mod network;
mod suites;
mod system;
mod table;

use std::{
    path::{Path, PathBuf},
    process::{Command, ExitCode},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::{debian::NEWEST, guests::Guests, suites::Suite, table::Features};
use crate::{
    architecture::Architecture,
    build::{self, Profile},
    command::{output, repository, succeed},
    setup,
};

/// Kernels and suites of a run.
pub struct Plan {
    /// The guests' architecture.
    pub architecture: Architecture,
    /// Series of kernels, such as `6.1`; the default ones if empty.
    pub series: Vec<String>,
    /// Suites by name, or a suite and a part of its tests' names, as in `guard/proof`; those of [`suites`] if empty.
    pub suites: Vec<String>,
    /// Time limit of a guest.
    pub limit: Duration,
    /// Write the table in docs/reference.md, including this machine's kernel.
    pub table: bool,
}

/// The file in a kernel's folder with the features that the suites have reported.
const FEATURES: &str = "features";

/// Runs the suites on each kernel, and prints the results last.
///
/// # Errors
///
/// A tool is missing and cannot be installed, or the build fails.
pub fn vm(plan: &Plan) -> Result<ExitCode> {
    setup::ensure()?;
    let architecture = plan.architecture;
    let foreign = Some(architecture).filter(|it| it.is_foreign());
    let tfo = build::tfo_for(foreign, Profile::Dev)?;
    let guests = Guests::of(architecture)?;
    let suites = suites::chosen(&plan.suites, foreign)?;
    let suites = suites::copies(&tfo, suites, &guests.folder.join("bin"))?;
    let commands = suites::commands(&suites);
    let mut verdicts = Vec::new();
    for series in debian::chosen(architecture, &plan.series) {
        let kernel = guests.kernel(series)?;
        let mut features = Features::of(&kernel.release);
        let hear = |line: &str| features.read(line);
        let verdict = guests.run(&kernel, &commands, plan.limit, hear)?;
        if verdict.is_success() && plan.suites.is_empty() {
            features.save(&guests.folder.join(series).join(FEATURES))?;
        }
        verdicts.push((kernel.release, verdict));
    }
    if plan.table {
        write_table(architecture, &suites, &guests.folder)?;
    }
    let mut code = ExitCode::SUCCESS;
    for (release, verdict) in &verdicts {
        println!("tfo: vm: Linux {release}: {verdict}");
        if !verdict.is_success() {
            code = ExitCode::FAILURE;
        }
    }
    Ok(code)
}

/// Writes the table of an architecture's kernels, and of this machine's if it is of that architecture.
fn write_table(architecture: Architecture, suites: &[Suite], folder: &Path) -> Result<()> {
    let mut kernels = Features::all_saved(architecture, folder, FEATURES)?;
    if !architecture.is_foreign() {
        kernels.push(here(suites)?);
    }
    let page = repository().join("docs/reference.md");
    let arguments = format!("--arch {}", architecture.debian());
    table::write(&arguments, &kernels, &page)
}

/// The features of this machine's own kernel.
fn here(suites: &[Suite]) -> Result<Features> {
    let release = output(Command::new("uname").arg("-r")).context("uname does not work")?;
    println!("tfo: vm: this machine's Linux {release}");
    let mut features = Features::of(&release);
    for suite in suites {
        let passed = suite.run(|_| (), |line| features.read(line))?;
        ensure!(passed, "a suite fails on this machine's kernel");
    }
    Ok(features)
}

/// Packs the files of a guest of a foreign architecture into an archive, and returns its path.
///
/// # Errors
///
/// They cannot be had.
pub(crate) fn clean_system(architecture: Architecture, archive: &Path) -> Result<PathBuf> {
    let guests = Guests::of(architecture)?;
    let mut tar = Command::new("tar");
    tar.arg("-C").arg(&guests.system).arg("-cf").arg(archive);
    succeed(tar.args(["--owner=0", "--group=0", "."]))?;
    Ok(archive.to_owned())
}

/// Runs commands of the shell in a guest with the newest kernel of an architecture, until one fails.
///
/// # Errors
///
/// A command fails, or they take longer than `limit`.
pub(crate) fn commands(
    architecture: Architecture,
    commands: &[String],
    limit: Duration,
) -> Result<()> {
    let guests = Guests::of(architecture)?;
    let kernel = guests.kernel(NEWEST)?;
    let commands = commands.join(" &&\n") + " &&\n";
    let verdict = guests.run(&kernel, &commands, limit, |_| {})?;
    ensure!(verdict.done, "what the guest ran failed: see above");
    Ok(())
}
