//! Other programs, run to their end within a time limit.

use std::{
    io::{self, Read},
    os::unix::process::CommandExt as _,
    process::{Child, Command, ExitStatus, Stdio},
    sync::{Arc, Mutex, MutexGuard, PoisonError},
    thread::{self, JoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::poll::{Deadline, eventually, scaled};

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

/// Makes sure that `text` has all of these parts.
///
/// # Errors
///
/// Where it lacks one, with the text.
pub fn ensure_says(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    Ok(())
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
    /// Standard output and standard error.
    pipes: [Pipe; 2],
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
        let pipes = [
            Pipe::collect(child.stdout.take()),
            Pipe::collect(child.stderr.take()),
        ];
        Ok(Self { name, child, pipes })
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

    /// What it has written so far, to its standard output and its standard error.
    pub fn written(&self) -> [String; 2] {
        self.pipes.each_ref().map(Pipe::text)
    }

    /// Waits until it has written `text`, to either.
    ///
    /// # Errors
    ///
    /// Where it has not after `limit`, or has ended without: with what it wrote.
    pub fn wait_for_text(&mut self, text: &str, limit: Duration) -> Result<()> {
        let wrote = |pipes: &[Pipe; 2]| pipes.iter().any(|pipe| pipe.text().contains(text));
        let waited = eventually(text, limit, || {
            // Whatever it wrote before it ended is there once both pipes are at their end.
            let ended = self.child.try_wait()?.is_some() && self.pipes.iter().all(Pipe::is_whole);
            let wrote = wrote(&self.pipes);
            ensure!(wrote || !ended, "it ended without {text:?}");
            Ok(wrote)
        });
        let [stdout, stderr] = self.written();
        waited.map(drop).with_context(|| {
            let name = &self.name;
            format!("{name}\nstdout: {stdout}\nstderr: {stderr}")
        })
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
        let [stdout, stderr] = self.pipes.each_mut().map(Pipe::whole);
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
    let deadline = Deadline::after(limit);
    loop {
        let is_over = deadline.is_over();
        if let Some(status) = child.try_wait()? {
            return Ok(status);
        }
        if is_over {
            bail!("still running after {:?}", scaled(limit));
        }
        thread::sleep(POLL);
    }
}

/// What comes out of a pipe, which is read beside the caller, so that a full pipe stops nobody.
#[derive(Debug)]
pub(crate) struct Pipe {
    bytes: Arc<Mutex<Vec<u8>>>,
    reader: Option<JoinHandle<()>>,
}

impl Pipe {
    pub(crate) fn collect(pipe: Option<impl Read + Send + 'static>) -> Self {
        let bytes = Arc::new(Mutex::new(Vec::new()));
        let sink = Arc::clone(&bytes);
        let reader = thread::spawn(move || {
            let Some(mut pipe) = pipe else { return };
            let mut some = [0; 4096];
            loop {
                match pipe.read(&mut some) {
                    Ok(len @ 1..) => locked(&sink).extend_from_slice(&some[..len]),
                    Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                    _ => break,
                }
            }
        });
        Self {
            bytes,
            reader: Some(reader),
        }
    }

    /// What came so far.
    fn text(&self) -> String {
        String::from_utf8_lossy(&locked(&self.bytes)).into_owned()
    }

    fn is_whole(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// All that comes, up to the end.
    pub(crate) fn whole(&mut self) -> String {
        if let Some(reader) = self.reader.take() {
            drop(reader.join());
        }
        self.text()
    }
}

fn locked(bytes: &Mutex<Vec<u8>>) -> MutexGuard<'_, Vec<u8>> {
    bytes.lock().unwrap_or_else(PoisonError::into_inner)
}
