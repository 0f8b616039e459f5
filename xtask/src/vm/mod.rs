//! `cargo xtask vm`: the kernel suites on other kernels, those of Debian's packages, under QEMU.
//!
//! A guest has this machine's file system, read-only, with what it writes kept in memory: the tests and
//! the tools they call are those of this machine, and only the kernel is another.

mod debian;
mod guest;
mod initramfs;

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use self::guest::Guest;
use crate::{
    build::{self, Profile},
    command::repository,
    setup, test,
};

/// The series that the suites are run on where none is named: Debian 12's own kernel, and its backport.
const SERIES: [&str; 2] = ["6.1", "6.12"];

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
    /// The suites, by name; all of them where there are none.
    pub suites: Vec<String>,
    /// How long a guest may take.
    pub limit: Duration,
}

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
    let suites = test::suites(&plan.suites)?;
    let suites = copies(&tfo, &suites, &repository().join("target/vm/bin"))?;
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
        let verdict = guest.run(&script?, &trial?, plan.limit)?;
        verdicts.push((kernel.release.clone(), verdict));
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

/// Copies of the executables, which stay what they are while a guest runs, whatever is built meanwhile.
fn copies(tfo: &Path, suites: &[PathBuf], into: &Path) -> Result<Vec<PathBuf>> {
    let _ = fs::remove_dir_all(into);
    fs::create_dir_all(into)?;
    let copy = |from: &PathBuf| -> Result<PathBuf> {
        let to = into.join(from.file_name().unwrap_or_default());
        fs::copy(from, &to).with_context(|| format!("cannot copy {}", from.display()))?;
        Ok(to)
    };
    // The suites look for it beside themselves.
    copy(&tfo.to_owned())?;
    suites.iter().map(copy).collect()
}

/// What the guest does once it is up: every suite, one test at a time, since it is slow.
fn script(kernel: &Kernel, suites: &[PathBuf], path: PathBuf) -> Result<PathBuf> {
    let mut lines = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root TFO_PATIENCE=20\n\
         mount --bind {modules} /lib/modules/{release}\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         ip link set lo up\n\
         cd {tests}\n",
        modules = kernel.modules().display(),
        release = kernel.release,
        tests = repository().join("tests").display(),
    );
    for suite in suites {
        let name = suite.file_stem().unwrap_or_default().display();
        lines += &format!(
            "echo '{} {name}'\n{} --test-threads 1\n",
            guest::SUITE,
            suite.display()
        );
    }
    lines += &format!("echo '{}'\n", guest::DONE);
    fs::write(&path, lines)?;
    Ok(path)
}
