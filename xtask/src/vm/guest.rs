//! One guest, from boot to result.

use std::{
    fmt, fs,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::debian::Kernel;
use crate::{architecture::Architecture, command::repository, setup};

/// The lines that a guest prints before each suite, and after the last.
pub(super) const SUITE: &str = "tfo: vm: suite";
pub(super) const DONE: &str = "tfo: vm: done";

const KVM: &str = "kvm";
const EMULATION: &str = "tcg,thread=multi";

/// A machine to boot.
pub(super) struct Guest<'a> {
    pub(super) machine: &'a Machine,
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
    /// The folder with the guest's files: `/`, or those of another architecture.
    pub(super) system: &'a Path,
}

/// The settings in which architectures differ.
#[derive(Debug)]
pub(super) struct Machine {
    architecture: Architecture,
    /// Machine and CPU, for QEMU.
    hardware: &'static [&'static str],
    /// The package with its QEMU.
    package: &'static str,
    /// The serial console, and what else the kernel is told.
    kernel: &'static str,
}

impl Machine {
    pub(super) const fn of(architecture: Architecture) -> &'static Self {
        match architecture {
            Architecture::Amd64 => &Self {
                architecture: Architecture::Amd64,
                hardware: &["-cpu", "max"],
                package: "qemu-system-x86",
                // The kernel's check of the timer fails at times where it is emulated.
                kernel: "console=ttyS0 no_timer_check",
            },
            Architecture::Arm64 => &Self {
                architecture: Architecture::Arm64,
                // Pointer authentication by its own algorithm would take most of the time.
                hardware: &["-machine", "virt", "-cpu", "max,pauth-impdef=on"],
                package: "qemu-system-arm",
                // A CPU that is emulated on a busy machine stands still at times.
                kernel: "console=ttyAMA0 nosoftlockup rcupdate.rcu_cpu_stall_suppress=1",
            },
        }
    }

    /// Installs QEMU for it.
    pub(super) fn install(&self) -> Result<()> {
        setup::programs(&[(&self.qemu(), self.package)])
    }

    /// QEMU's program.
    fn qemu(&self) -> String {
        format!("qemu-system-{}", self.architecture.name())
    }
}

/// Time limit under KVM for a guest that only boots and shuts down.
const TRIAL: Duration = Duration::from_secs(30);

/// The sum of the suites' results.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    passed: u64,
    failed: u64,
    /// All suites have ended.
    pub(super) done: bool,
}

impl Verdict {
    pub(super) const fn is_success(&self) -> bool {
        self.done && self.failed == 0 && self.passed > 0
    }

    /// Adds the result in a line of the guest's output, if there is one.
    fn read(&mut self, line: &str) {
        if line.trim_end() == DONE {
            self.done = true;
        }
        let Some(counts) = line.strip_prefix("test result: ") else {
            return;
        };
        let count = |what: &str| {
            let before = counts.split_once(what)?.0;
            before
                .rsplit([' ', ';'])
                .find(|word| !word.is_empty())?
                .parse::<u64>()
                .ok()
        };
        self.passed += count(" passed").unwrap_or(0);
        self.failed += count(" failed").unwrap_or(0);
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} tests passed, {} failed", self.passed, self.failed)?;
        if self.done {
            Ok(())
        } else {
            write!(f, ", and not all suites ended")
        }
    }
}

impl Guest<'_> {
    /// Runs `script` under KVM, or emulated if KVM does not work, and prints its output. Kills the guest after
    /// `limit`. `trial` is an empty script that tests KVM; `hear` is called with each line.
    pub(super) fn run(
        &self,
        script: &Path,
        trial: &Path,
        limit: Duration,
        mut hear: impl FnMut(&str),
    ) -> Result<Verdict> {
        let accelerator = self.accelerator(trial)?;
        self.boot(accelerator, script, limit, |line| {
            println!("{}: {line}", self.kernel.release);
            hear(line);
        })
    }

    /// A script that boots the guest with `script`, and with its own arguments as more of QEMU's. The chardev `shell` is
    /// its standard input and output.
    pub(super) fn boots(&self, script: &Path, trial: &Path) -> Result<String> {
        let mut command = self.command(self.accelerator(trial)?, script);
        command.args(["-display", "none", "-vga", "none", "-monitor", "none"]);
        command.args(["-chardev", "file,id=console,path=/dev/stderr,append=on"]);
        command.args(["-serial", "chardev:console"]);
        command.args(["-chardev", "stdio,id=shell,signal=off"]);
        command.args(["-device", "virtio-serial-pci"]);
        command.args(["-device", "virtserialport,chardev=shell"]);
        let arguments = command
            .get_args()
            .map(|argument| format!(" '{}'", argument.display()));
        Ok(format!(
            "#!/bin/sh\nexec {}{} \"$@\"\n",
            self.machine.qemu(),
            arguments.collect::<String>()
        ))
    }

    fn accelerator(&self, trial: &Path) -> Result<&'static str> {
        // The device may exist and not work, as in a virtual machine without nested virtualisation.
        let kvm = !self.machine.architecture.is_foreign()
            && fs::metadata("/dev/kvm").is_ok()
            && self.boot(KVM, trial, TRIAL, |_| {})?.done;
        Ok(if kvm { KVM } else { EMULATION })
    }

    fn boot(
        &self,
        accelerator: &str,
        script: &Path,
        limit: Duration,
        mut show: impl FnMut(&str),
    ) -> Result<Verdict> {
        let end = Instant::now() + limit;
        let mut command = self.command(accelerator, script);
        command.arg("-nographic");
        let start = command.spawn();
        let mut qemu = start.with_context(|| format!("cannot start {}", self.machine.qemu()))?;
        let (say, lines) = mpsc::channel();
        let stdout = qemu.stdout.take().context("QEMU has no output")?;
        let reader = thread::spawn(move || {
            for line in BufReader::new(stdout).split(b'\n').map_while(Result::ok) {
                let line = String::from_utf8_lossy(&line).trim_end().to_owned();
                if say.send(line).is_err() {
                    break;
                }
            }
        });
        let mut verdict = Verdict::default();
        loop {
            match lines.recv_timeout(end.saturating_duration_since(Instant::now())) {
                Ok(line) => {
                    show(&line);
                    verdict.read(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    show(&format!("ended after {} s", limit.as_secs()));
                    qemu.kill()?;
                    break;
                }
            }
        }
        qemu.wait()?;
        drop(lines);
        let _ = reader.join();
        Ok(verdict)
    }

    fn command(&self, accelerator: &str, script: &Path) -> Command {
        let mut command = Command::new(self.machine.qemu());
        command.args(self.machine.hardware);
        command.args(["-accel", accelerator, "-smp", "2"]);
        command.args(["-m", "4096", "-no-reboot", "-nic", "none"]);
        for (path, tag) in [(self.system, "system"), (repository(), "repository")] {
            let path = path.display();
            command.arg("-virtfs").arg(format!(
                "local,path={path},mount_tag={tag},security_model=none,readonly=on,multidevs=remap"
            ));
        }
        command.arg("-kernel").arg(&self.kernel.image);
        command.arg("-initrd").arg(self.initramfs);
        let line = format!(
            "{} quiet panic=-1 tfo_repository={} tfo_script={}",
            self.machine.kernel,
            repository().display(),
            script.display()
        );
        command.args(["-append", &line]);
        // Without KVM, QEMU's errors explain a failure; with it, the trial may fail.
        let stderr = if accelerator == KVM {
            Stdio::null()
        } else {
            Stdio::inherit()
        };
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(stderr);
        command
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_verdict_takes_all_suites_to_their_end() {
        let mut verdict = Verdict::default();
        verdict.read("test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured");
        assert!(!verdict.is_success());
        verdict.read("tfo: vm: done\r");
        assert!(verdict.is_success());
        verdict.read("test result: FAILED. 3 passed; 2 failed; 0 ignored");
        assert!(!verdict.is_success());
        assert_eq!((verdict.passed, verdict.failed), (15, 2));
    }
}
