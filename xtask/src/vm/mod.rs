//! `cargo xtask vm`: the kernel suites on Debian's kernels, under QEMU.
//!
//! A guest mounts this machine's file system read-only, with an overlay in memory: tests and tools are the same, only
//! the kernel differs. One of another architecture has a Debian of its own in place of this machine's, and tests that
//! were cross-built.

mod debian;
mod guest;
mod guests;
mod initramfs;
mod system;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::{guests::Guests, table::Features};
use crate::{
    architecture::Architecture,
    build::{self, Profile},
    command::{as_root, output, repository, succeed},
    setup,
    test::{self, Selection},
};

/// The default series: Debian 12's kernel and its backport, which for arm64 there is with pages of 16 KiB, too.
const fn series(architecture: Architecture) -> &'static [&'static str] {
    match architecture {
        Architecture::Amd64 => &["6.1", "6.12"],
        Architecture::Arm64 => &["6.1", "6.12", "6.12-16k"],
    }
}

/// The newest of them, which has all features.
const NEWEST: &str = "6.12";

/// The default suites: each feature once, and differences between kernels. All suites would take hours without KVM.
const CHOSEN: [(&str, Option<&str>); 3] = [
    ("kernels", None),
    ("conditions", Some("dropped_before_the_listener")),
    ("conditions", Some("where_kernels_differ")),
];

/// Kernels and suites of a run.
pub struct Plan {
    /// The guests' architecture.
    pub architecture: Architecture,
    /// Series of kernels, such as `6.1`; the default ones if empty.
    pub series: Vec<String>,
    /// Suites by name, or a suite and a part of its tests' names, as in `guard/proof`; [`CHOSEN`] if empty.
    pub suites: Vec<String>,
    /// Time limit of a guest.
    pub limit: Duration,
    /// Write the table in docs/reference.md, including this machine's kernel.
    pub table: bool,
}

/// An executable and the tests to run.
struct Suite {
    executable: PathBuf,
    tests: Vec<String>,
}

/// Arguments of each executable: failures are printed at once, since the guest may not complete.
const ARGUMENTS: [&str; 4] = ["--exact", "--test-threads", "1", "--nocapture"];

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
    let suites = chosen(&plan.suites, foreign)?;
    let suites = copies(&tfo, suites, &guests.folder.join("bin"))?;
    let commands = suites_commands(&suites);
    let series: Vec<&str> = match plan.series.as_slice() {
        [] => series(architecture).into(),
        named => named.iter().map(String::as_str).collect(),
    };
    let mut verdicts = Vec::new();
    for series in series {
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
    let saved = |series| Features::saved(&folder.join(series).join(FEATURES));
    let mut kernels = series(architecture)
        .iter()
        .map(saved)
        .collect::<Result<Vec<_>>>()?;
    if !architecture.is_foreign() {
        kernels.push(here(suites)?);
    }
    let page = repository().join("docs/reference.md");
    table::write(architecture.debian(), &kernels, &page)
}

/// The suites of these names, or those of [`CHOSEN`].
fn chosen(names: &[String], architecture: Option<Architecture>) -> Result<Vec<Suite>> {
    let selected: Vec<_> = names
        .iter()
        .map(|name| match name.split_once('/') {
            Some((suite, filter)) => (suite, Some(filter)),
            None => (name.as_str(), None),
        })
        .collect();
    let asked = if names.is_empty() {
        &CHOSEN
    } else {
        &selected[..]
    };
    let mut suites = Vec::new();
    for (suite, filter) in asked {
        let selected = test::select(&Selection {
            suite: Some((*suite).to_owned()),
            filter: filter.map(str::to_owned),
            architecture,
            ..Selection::default()
        })?;
        suites.extend(selected.into_iter().map(|selected| Suite {
            executable: selected.executable().to_owned(),
            tests: selected.tests().to_vec(),
        }));
    }
    Ok(suites)
}

/// The features of this machine's own kernel.
fn here(suites: &[Suite]) -> Result<Features> {
    let release = output(Command::new("uname").arg("-r")).context("uname does not work")?;
    println!("tfo: vm: this machine's Linux {release}");
    let mut features = Features::of(&release);
    for suite in suites {
        let mut command = as_root(&suite.executable)?;
        command
            .args(&suite.tests)
            .args(ARGUMENTS)
            .current_dir(repository().join(test::KERNEL_SUITES))
            .stderr(Stdio::inherit());
        let ran = command.output().context("cannot start a suite")?;
        let said = String::from_utf8_lossy(&ran.stdout);
        print!("{said}");
        ensure!(
            ran.status.success(),
            "a suite fails on this machine's kernel"
        );
        said.lines().for_each(|line| features.read(line));
    }
    Ok(features)
}

/// Copies of the executables, so that a build does not change them while a guest runs.
fn copies(tfo: &Path, mut suites: Vec<Suite>, into: &Path) -> Result<Vec<Suite>> {
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into)?;
    let copy = |from: &Path| -> Result<PathBuf> {
        let to = into.join(from.file_name().unwrap_or_default());
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(to)
    };
    // The suites look for `tfo` in their own folder.
    copy(tfo)?;
    for suite in &mut suites {
        suite.executable = copy(&suite.executable)?;
    }
    Ok(suites)
}

/// The commands that run every suite, one test at a time, since it is slow.
fn suites_commands(suites: &[Suite]) -> String {
    let mut lines = format!(
        "export TFO_PATIENCE=20 TFO_STOCK_KERNEL=1\ncd {}\n",
        repository().join(test::KERNEL_SUITES).display()
    );
    for suite in suites {
        let name = suite.executable.file_stem().unwrap_or_default().display();
        lines += &format!(
            "echo '{} {name}'\n{} {}\n",
            guest::SUITE,
            suite.executable.display(),
            [&suite.tests.join(" "), &ARGUMENTS.join(" ")[..]].join(" ")
        );
    }
    lines
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
