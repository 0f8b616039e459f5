//! `cargo xtask vm`: the kernel suites on other kernels, those of Debian's packages, under QEMU.
//!
//! A guest has this machine's file system, read-only, with what it writes kept in memory: the tests and
//! the tools they call are those of this machine, and only the kernel is another.

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

/// The series that the suites are run on where none is named: Debian 12's own kernel, and its backport.
const SERIES: [&str; 2] = ["6.1", "6.12"];

/// What is run where no suite is named: each feature once, and what kernels differ in. All suites would take
/// hours where KVM does not work.
const CHOSEN: [(&str, Option<&str>); 3] = [
    ("kernels", None),
    ("conditions", Some("dropped_before_the_listener")),
    ("conditions", Some("where_kernels_differ")),
];

/// What preparing and running a guest takes: programs, and the packages that have them.
const PROGRAMS: [(&str, &str); 5] = [
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("modprobe", "kmod"),
    ("qemu-system-x86_64", "qemu-system-x86"),
    ("xz", "xz-utils"),
];

/// What to run, and where.
pub struct Plan {
    /// Series of kernels, such as `6.1`; those of [`SERIES`] where there are none.
    pub series: Vec<String>,
    /// The suites, by name; what [`CHOSEN`] has where there are none.
    pub suites: Vec<String>,
    /// How long a guest may take.
    pub limit: Duration,
    /// Write the table in docs/reference.md, with this machine's kernel beside the others.
    pub table: bool,
}

/// The tests to run of an executable.
struct Suite {
    executable: PathBuf,
    tests: Vec<String>,
}

/// What each executable is called with: what fails is told at once, for the guest may not come to its end.
const ARGUMENTS: [&str; 4] = ["--exact", "--test-threads", "1", "--nocapture"];

/// Where a kernel's folder keeps what the suites said of it.
const FEATURES: &str = "features";

/// A kernel, unpacked.
struct Kernel {
    /// As `uname -r` has it.
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

/// Runs the suites on each kernel, and ends with what each had to say.
///
/// # Errors
///
/// Something is missing and cannot be installed, or the build fails.
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

/// The suites of these names, or those that are chosen.
fn chosen(names: &[String]) -> Result<Vec<Suite>> {
    let named: Vec<_> = names.iter().map(|name| (name.as_str(), None)).collect();
    let asked = if names.is_empty() {
        &CHOSEN
    } else {
        &named[..]
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

/// What the suites say of this machine's own kernel.
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

/// Copies of the executables, which stay what they are while a guest runs, whatever is built meanwhile.
fn copies(tfo: &Path, mut suites: Vec<Suite>, into: &Path) -> Result<Vec<Suite>> {
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into)?;
    let copy = |from: &Path| -> Result<PathBuf> {
        let to = into.join(from.file_name().unwrap_or_default());
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(to)
    };
    // The suites look for it beside themselves.
    copy(tfo)?;
    for suite in &mut suites {
        suite.executable = copy(&suite.executable)?;
    }
    Ok(suites)
}

/// What the guest does once it is up: every suite, one test at a time, since it is slow.
fn script(kernel: &Kernel, suites: &[Suite], path: PathBuf) -> Result<PathBuf> {
    let mut lines = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TFO_PATIENCE=20\n\
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
