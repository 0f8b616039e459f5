//! A guest from its start to its verdict.

use std::{
    fmt,
    io::{BufRead as _, BufReader},
    path::Path,
    process::{Command, Stdio},
    sync::mpsc::{self, RecvTimeoutError},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result};

use super::Kernel;

/// What the guest says before each suite, and behind the last.
pub(super) const SUITE: &str = "tfo: vm: suite";
pub(super) const DONE: &str = "tfo: vm: done";

pub(super) struct Guest<'a> {
    pub(super) kernel: &'a Kernel,
    pub(super) initramfs: &'a Path,
    /// What it runs.
    pub(super) script: &'a Path,
}

/// What the suites came to.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Verdict {
    passed: u64,
    failed: u64,
    /// All suites ran to their end.
    done: bool,
}

impl Verdict {
    pub(super) const fn is_success(&self) -> bool {
        self.done && self.failed == 0 && self.passed > 0
    }

    /// Takes in a line that the guest wrote.
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
            write!(f, ", and it did not come to an end")
        }
    }
}

impl Guest<'_> {
    /// Runs it, shows what it writes, and ends it after `limit`.
    pub(super) fn run(&self, limit: Duration) -> Result<Verdict> {
        let end = Instant::now() + limit;
        let mut qemu = self
            .command()
            .spawn()
            .context("cannot start qemu-system-x86_64")?;
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
                    println!("{}: {line}", self.kernel.release);
                    verdict.read(&line);
                }
                Err(RecvTimeoutError::Disconnected) => break,
                Err(RecvTimeoutError::Timeout) => {
                    println!("tfo: vm: ended after {} s", limit.as_secs());
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

    fn command(&self) -> Command {
        let mut command = Command::new("qemu-system-x86_64");
        // KVM where it is to be had, else emulation, in which the check of the timer fails at times.
        command.args([
            "-accel",
            "kvm",
            "-accel",
            "tcg,thread=multi",
            "-cpu",
            "max",
            "-smp",
            "2",
        ]);
        command.args(["-m", "4096", "-nographic", "-no-reboot", "-nic", "none"]);
        command.args([
            "-virtfs",
            "local,path=/,mount_tag=host,security_model=none,readonly=on,multidevs=remap",
        ]);
        command.arg("-kernel").arg(&self.kernel.image);
        command.arg("-initrd").arg(self.initramfs);
        let line = format!(
            "console=ttyS0 quiet no_timer_check panic=-1 tfo_script={}",
            self.script.display()
        );
        command.args(["-append", &line]);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
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
