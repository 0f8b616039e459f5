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

use super::Kernel;

/// The lines that a guest prints before each suite, and after the last.
pub(super) const SUITE: &str = "tfo: vm: suite";
pub(super) const DONE: &str = "tfo: vm: done";

const KVM: &str = "kvm";
/// Emulation. The guest boots with `no_timer_check`, as the kernel's check of the timer fails at times.
const EMULATION: &str = "tcg,thread=multi";

pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
}

/// Time limit under KVM for a guest that only boots and shuts down.
const TRIAL: Duration = Duration::from_secs(30);

/// The sum of the suites' results.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    passed: u64,
    failed: u64,
    /// All suites have ended.
    done: bool,
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
        // The device may exist and not work, as in a virtual machine without nested virtualisation.
        let kvm = fs::metadata("/dev/kvm").is_ok() && self.boot(KVM, trial, TRIAL, |_| {})?.done;
        let accelerator = if kvm { KVM } else { EMULATION };
        self.boot(accelerator, script, limit, |line| {
            println!("{}: {line}", self.kernel.release);
            hear(line);
        })
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
        let mut qemu = command.spawn().context("cannot start qemu-system-x86_64")?;
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
        let mut command = Command::new("qemu-system-x86_64");
        command.args(["-accel", accelerator, "-cpu", "max", "-smp", "2"]);
        command.args(["-m", "4096", "-nographic", "-no-reboot", "-nic", "none"]);
        command.args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ]);
        command.arg("-kernel").arg(&self.kernel.image);
        command.arg("-initrd").arg(self.initramfs);
        let line = format!(
            "console=ttyS0 quiet no_timer_check panic=-1 tfo_script={}",
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
