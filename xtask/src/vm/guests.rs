//! The parts that the guests of an architecture share: QEMU, packages, files.

use std::{
    fs,
    os::unix::fs::PermissionsExt as _,
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};

use super::{
    debian::{self, Kernel},
    guest::{DONE, Guest, Machine, Verdict},
    initramfs, system,
};
use crate::{
    architecture::Architecture,
    command::{repository, which},
    packages::Packages,
    setup,
};

/// Programs that prepare a guest, and their Debian packages.
const PROGRAMS: [(&str, &str); 4] = [
    ("busybox", "busybox-static"),
    ("cpio", "cpio"),
    ("modprobe", "kmod"),
    ("xz", "xz-utils"),
];

pub(super) struct Guests {
    architecture: Architecture,
    packages: Packages,
    /// The folder with the files of a guest.
    pub(super) system: PathBuf,
    busybox: PathBuf,
    /// The folder for what belongs to guests of this architecture.
    pub(super) folder: PathBuf,
}

impl Guests {
    /// Installs and downloads what is missing, but for kernels.
    pub(super) fn of(architecture: Architecture) -> Result<Self> {
        ensure!(
            cfg!(target_arch = "x86_64"),
            "guests have been made on x86-64 machines only"
        );
        setup::programs(&PROGRAMS)?;
        Machine::of(architecture).install()?;
        let mut folder = repository().join("target/vm");
        let packages = Packages::of(architecture)?;
        let (system, busybox) = if architecture.is_foreign() {
            folder.push(architecture.debian());
            let system = system::make(&packages, &folder)?;
            let busybox = system.join("bin/busybox");
            (system, busybox)
        } else {
            let busybox = which("busybox").context("busybox is missing: install busybox-static")?;
            ("/".into(), busybox)
        };
        Ok(Self {
            architecture,
            packages,
            system,
            busybox,
            folder,
        })
    }

    /// The newest kernel of a series.
    pub(super) fn kernel(&self, series: &str) -> Result<Kernel> {
        let folder = self.folder.join(series);
        debian::kernel(&self.packages, self.architecture, series, &folder)
    }

    /// Runs commands of the shell in a guest with this kernel; `hear` is called with each line that it prints. The
    /// guest is done when it has come behind them.
    pub(super) fn run(
        &self,
        kernel: &Kernel,
        commands: &str,
        limit: Duration,
        hear: impl FnMut(&str),
    ) -> Result<Verdict> {
        let initramfs = initramfs::make(kernel, &self.busybox, kernel.folder()?)?;
        println!("tfo: vm: booting Linux {}", kernel.release);
        let [script, trial] = scripts(kernel, commands, "commands.sh")?;
        self.guest(kernel, &initramfs)
            .run(&script, &trial, limit, hear)
    }

    /// Prepares a guest with this kernel, and returns the script that boots it, with a shell on standard input and
    /// output.
    pub(super) fn boots(&self, kernel: &Kernel) -> Result<PathBuf> {
        let folder = kernel.folder()?;
        let initramfs = initramfs::make(kernel, &self.busybox, folder)?;
        let [script, trial] = scripts(kernel, SHELL, "shell.sh")?;
        let boots = folder.join("boot.sh");
        let lines = self.guest(kernel, &initramfs).boots(&script, &trial)?;
        fs::write(&boots, lines)?;
        fs::set_permissions(&boots, fs::Permissions::from_mode(0o755))?;
        Ok(boots)
    }

    fn guest<'a>(&'a self, kernel: &'a Kernel, initramfs: &'a Path) -> Guest<'a> {
        Guest {
            machine: Machine::of(self.architecture),
            kernel,
            initramfs,
            system: &self.system,
        }
    }
}

/// The commands that run a shell on the guest's virtio port, until that ends.
const SHELL: &str = "modprobe virtio_console\n\
                     until ls /dev/vport* >/run/shell 2>&1; do sleep 0.1; done\n\
                     exec 3<>\"$(echo /dev/vport*)\"\n\
                     sh <&3 >&3\n";

/// The guest's script of this name with these commands, and one without any.
fn scripts(kernel: &Kernel, commands: &str, name: &str) -> Result<[PathBuf; 2]> {
    let folder = kernel.folder()?;
    Ok([
        script(kernel, commands, folder.join(name))?,
        script(kernel, "", folder.join("trial.sh"))?,
    ])
}

/// The guest's script: what a shell needs, the commands, and the line that says that they are done.
fn script(kernel: &Kernel, commands: &str, path: PathBuf) -> Result<PathBuf> {
    let lines = format!(
        "export PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin HOME=/root\n\
         mount --bind {modules} /lib/modules/{release}\n\
         mount -t bpf bpf /sys/fs/bpf\n\
         ip link set lo up\n\
         echo \"tfo: vm: $(uname -m), pages of $(getconf PAGESIZE) bytes, bpf_jit_enable $(cat /proc/sys/net/core/bpf_jit_enable)\"\n\
         {commands}echo '{DONE}'\n",
        modules = kernel.modules().display(),
        release = kernel.release,
    );
    fs::write(&path, lines)?;
    Ok(path)
}
