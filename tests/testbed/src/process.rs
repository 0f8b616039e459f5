//! Other programs, run to their end within a time limit.

use std::{
    io::Read,
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    thread::{self, JoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::poll::patient;

/// How often a child is asked whether it has ended.
const POLL: Duration = Duration::from_millis(2);

/// What a program left behind.
#[derive(Clone, Debug)]
pub struct Output {
    /// How it ended.
    pub status: ExitStatus,
    /// What it wrote to its standard output.
    pub stdout: String,
    /// What it wrote to its standard error.
    pub stderr: String,
}

impl Output {
    /// Makes sure that it is a refusal: status 1, nothing on standard output, and one line on standard error
    /// that has all of `parts`.
    ///
    /// # Errors
    ///
    /// Where it is not, with what it is.
    pub fn ensure_refused(&self, parts: &[&str]) -> Result<()> {
        ensure!(
            self.status.code() == Some(1)
                && self.stdout.is_empty()
                && self.stderr.lines().count() == 1,
            "not one line and status 1: {self:#?}"
        );
        for part in parts {
            ensure!(self.stderr.contains(part), "no {part:?} in {self:#?}");
        }
        Ok(())
    }
}

/// Runs `command` to its end and takes what it writes.
///
/// # Errors
///
/// Where it cannot be started, or has not ended after `limit`: it is killed then, and the error tells
/// what it had written.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    // Ctrl-C is for this process, which then still has to clean up with commands such as this one.
    Background::start(command.process_group(0))?.wait(limit)
}

/// As [`output`], but a status other than 0 is an error that tells what the program wrote.
///
/// # Errors
///
/// As [`output`], and where the program fails.
pub fn succeed(command: &mut Command, limit: Duration) -> Result<String> {
    let output = output(command, limit)?;
    if !output.status.success() {
        bail!(
            "{command:?} ended with {}\nstdout: {}\nstderr: {}",
            output.status,
            output.stdout,
            output.stderr
        );
    }
    Ok(output.stdout)
}

/// A program that runs beside the test. It is killed on drop.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    pipes: Option<[JoinHandle<String>; 2]>,
}

impl Background {
    /// Starts `command`, and takes what it writes from the start.
    ///
    /// # Errors
    ///
    /// Where it cannot be started.
    pub fn start(command: &mut Command) -> Result<Self> {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .with_context(|| format!("cannot start {name}"))?;
        let pipes = [collect(child.stdout.take()), collect(child.stderr.take())];
        Ok(Self {
            name,
            child,
            pipes: Some(pipes),
        })
    }

    /// Its process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `true` where it has not ended.
    ///
    /// # Errors
    ///
    /// As wait(2).
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Sends it a signal.
    ///
    /// # Errors
    ///
    /// As kill(2).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Asks it to end, by SIGTERM, and waits until it has.
    ///
    /// # Errors
    ///
    /// As [`Background::wait`].
    pub fn terminate(self, limit: Duration) -> Result<Output> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Waits until it ends by itself.
    ///
    /// # Errors
    ///
    /// Where it has not ended after `limit`: it is killed then, and the error tells what it had
    /// written.
    pub fn wait(mut self, limit: Duration) -> Result<Output> {
        let status = wait(&mut self.child, limit);
        if status.is_err() {
            self.kill();
        }
        let pipes = self.pipes.take().map(|pipes| pipes.map(JoinHandle::join));
        let [stdout, stderr] = pipes
            .map(|texts| texts.map(Result::unwrap_or_default))
            .unwrap_or_default();
        match status {
            Ok(status) => Ok(Output {
                status,
                stdout,
                stderr,
            }),
            Err(error) => {
                let name = &self.name;
                Err(error.context(format!("{name}\nstdout: {stdout}\nstderr: {stderr}")))
            }
        }
    }

    fn kill(&mut self) {
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

impl Drop for Background {
    fn drop(&mut self) {
        self.kill();
    }
}

/// Waits for `child` to end by itself.
pub(crate) fn wait(child: &mut Child, limit: Duration) -> Result<ExitStatus> {
    let deadline = Instant::now() + patient(limit);
    loop {
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if Instant::now() >= deadline {
            bail!("still running after {limit:?}");
        }
        thread::sleep(POLL);
    }
}

/// Reads `pipe` to its end beside the caller, so that a full pipe stops nobody.
pub(crate) fn collect(pipe: Option<impl Read + Send + 'static>) -> JoinHandle<String> {
    thread::spawn(move || {
        let mut bytes = Vec::new();
        if let Some(mut pipe) = pipe {
            drop(pipe.read_to_end(&mut bytes));
        }
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
