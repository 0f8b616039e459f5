//! `cargo xtask vm`: the kernel suites on Debian's kernels, under QEMU.
//!
//! A guest mounts this machine's file system read-only, with an overlay in memory: tests and tools are the same, only
//! the kernel differs.

mod debian;
mod guest;
mod initramfs;
mod table;

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitCode, Stdio},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::{guest::Guest, table::Features};
use crate::{
    build::{self, Profile},
    command::{as_root, output, repository},
    setup,
    test::{self, Selection},
};

/// The default series: Debian 12's kernel and its backport.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// The default suites: each feature once, and differences between kernels. All suites would take hours without KVM.
const CHOSEN: [(&str, Option<&str>); 3] = [
    ("kernels", None),
    ("conditions", Some("dropped_before_the_listener")),
    ("conditions", Some("where_kernels_differ")),
];

/// Programs that prepare and run a guest, and their Debian packages.
const PROGRAMS: [(&str, &str); 5] = [
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("modprobe", "kmod"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
];

/// Kernels and suites of a run.
pub struct Plan {
    /// Series of kernels, such as `6.1`; [`SERIES`] if empty.
    pub series: Vec<String>,
    /// Suites by name; [`CHOSEN`] if empty.
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

/// A kernel, unpacked.
struct Kernel {
    /// The output of `uname -r`.
    release: String,
    image: PathBuf,
    /// The folder with `lib/modules`.
    root: PathBuf,
}

impl Kernel {
    fn modules(&self) -> PathBuf {
        self.root.join("lib/modules").join(&self.release)
    }
}

/// Runs the suites on each kernel, and prints the results last.
///
/// # Errors
///
/// A tool is missing and cannot be installed, or the build fails.
pub fn vm(plan: &Plan) -> Result<ExitCode> {
    ensure!(
        cfg!(target_arch = "x86_64"),
        "the guests are x86_64 machines, and the tests are built for this one"
    );
    setup::ensure()?;
    setup::programs(&PROGRAMS)?;
    let tfo = build::tfo(Profile::Dev)?;
    let suites = copies(
        &tfo,
        chosen(&plan.suites)?,
        &repository().join("target/vm/bin"),
    )?;
    let series: Vec<&str> = match plan.series.as_slice() {
        [] => SERIES.into(),
        named => named.iter().map(String::as_str).collect(),
    };
    let mut verdicts = Vec::new();
    for series in series {
        let folder = repository().join("target/vm").join(series);
        let kernel = debian::kernel(series, &folder)?;
        let initramfs = initramfs::make(&kernel, &folder)?;
        println!("tfo: vm: booting Linux {}", kernel.release);
        let guest = Guest {
            kernel: &kernel,
            initramfs: &initramfs,
        };
        let [script, trial] = [("suites.sh", &suites[..]), ("trial.sh", &[])]
            .map(|(name, suites)| script(&kernel, suites, folder.join(name)));
        let mut features = Features::of(&kernel.release);
        let verdict = guest.run(&script?, &trial?, plan.limit, |line| features.read(line))?;
        if verdict.is_success() && plan.suites.is_empty() {
            features.save(&folder.join(FEATURES))?;
        }
        verdicts.push((kernel.release.clone(), verdict));
    }
    if plan.table {
        let here = here(&suites)?;
        let mut kernels = Vec::new();
        for series in SERIES {
            let folder = repository().join("target/vm").join(series);
            kernels.push(Features::saved(&folder.join(FEATURES))?);
        }
        kernels.push(here);
        table::write(&kernels, &repository().join("docs/reference.md"))?;
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

/// The suites of these names, or those of [`CHOSEN`].
fn chosen(names: &[String]) -> Result<Vec<Suite>> {
    let selected: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
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

/// The guest's script: every suite, one test at a time, since it is slow.
fn script(kernel: &Kernel, suites: &[Suite], path: PathBuf) -> Result<PathBuf> {
    let mut lines = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TFO_PATIENCE=20 TFO_STOCK_KERNEL=1\n\
         mount --bind {modules} /lib/modules/{release}\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         ip link set lo up\n\
         cd {tests}\n",
        modules = kernel.modules().display(),
        release = kernel.release,
        tests = repository().join(test::KERNEL_SUITES).display(),
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
    lines += &format!("echo '{}'\n", guest::DONE);
    fs::write(&path, lines)?;
    Ok(path)
}
