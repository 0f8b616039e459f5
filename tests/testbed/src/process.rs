//! Child processes with a time limit.

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

/// Interval of waitpid(2).
const POLL: Duration = Duration::from_millis(2);

/// Exit status and output of a program.
#[derive(Clone, Debug)]
pub struct Output {
    /// Exit status.
    pub status: ExitStatus,
    /// Standard output.
    pub stdout: String,
    /// Standard error.
    pub stderr: String,
}

impl Output {
    /// Checks for a refusal: status 1, empty standard output, and one line on standard error that contains all `parts`.
    ///
    /// # Errors
    ///
    /// The output differs; the error contains it.
    pub fn ensure_refused(&self, parts: &[&str]) -> Result<()> {
        ensure!(
            self.status.code() == Some(1)
                && self.stdout.is_empty()
                && self.stderr.lines().count() == 1,
            "expected status 1 and one line on standard error: {self:#?}"
        );
        for part in parts {
            ensure!(self.stderr.contains(part), "no {part:?} in {self:#?}");
        }
        Ok(())
    }
}

/// Checks that `text` contains all `parts`.
///
/// # Errors
///
/// A part is missing; the error contains the text.
pub fn ensure_says(text: &str, parts: &[&str]) -> Result<()> {
    for part in parts {
        ensure!(text.contains(part), "no {part:?} in {text}");
    }
    Ok(())
}

/// Runs `command` and captures its output.
///
/// # Errors
///
/// The command cannot be started, or has not exited after `limit`: it is killed, and the error contains its output.
pub fn output(command: &mut Command, limit: Duration) -> Result<Output> {
    // Its own process group, so that Ctrl-C does not reach it: this process cleans up with such commands.
    Background::start(command.process_group(0))?.wait(limit)
}

/// As [`output`], for a program that must succeed. Returns its standard output.
///
/// # Errors
///
/// As [`output`], or a status other than 0; the error contains the output.
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

/// A command that runs `command` with its standard output in a pipe to the shell command `reader`, and ends with the status of
/// `command`. `:` reads nothing.
pub fn piped(command: &Command, reader: &str) -> Command {
    let mut shell = Command::new("bash");
    let script = format!("\"$@\" | {reader}; exit ${{PIPESTATUS[0]}}");
    shell
        .args(["-c", &script, "bash"])
        .arg(command.get_program())
        .args(command.get_args());
    shell
}

/// A program in the background. Killed on drop.
#[derive(Debug)]
pub struct Background {
    name: String,
    child: Child,
    /// Standard output and standard error.
    pipes: [Pipe; 2],
}

impl Background {
    /// Starts `command` and captures its output.
    ///
    /// # Errors
    ///
    /// The command cannot be started.
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

    /// Process id.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// `true` if it has not exited.
    ///
    /// # Errors
    ///
    /// As wait(2).
    pub fn is_running(&mut self) -> Result<bool> {
        Ok(self.child.try_wait()?.is_none())
    }

    /// Standard output and standard error so far.
    pub fn written(&self) -> [String; 2] {
        self.pipes.each_ref().map(Pipe::text)
    }

    /// Waits until standard output or standard error contains `text`.
    ///
    /// # Errors
    ///
    /// `text` is missing after `limit` or at exit; the error contains the output.
    pub fn wait_for_text(&mut self, text: &str, limit: Duration) -> Result<()> {
        let wrote = |pipes: &[Pipe; 2]| pipes.iter().any(|pipe| pipe.text().contains(text));
        let waited = eventually(text, limit, || {
            // The output is complete once both pipes are at EOF.
            let ended = self.child.try_wait()?.is_some() && self.pipes.iter().all(Pipe::is_whole);
            let wrote = wrote(&self.pipes);
            ensure!(wrote || !ended, "the program exited without {text:?}");
            Ok(wrote)
        });
        let [stdout, stderr] = self.written();
        waited.map(drop).with_context(|| {
            let name = &self.name;
            format!("{name}\nstdout: {stdout}\nstderr: {stderr}")
        })
    }

    /// Sends a signal.
    ///
    /// # Errors
    ///
    /// As kill(2).
    pub fn signal(&self, signal: Signal) -> Result<()> {
        kill_process(Pid::from_child(&self.child), signal)
            .with_context(|| format!("cannot signal {}", self.name))
    }

    /// Sends SIGTERM and waits for the exit.
    ///
    /// # Errors
    ///
    /// As [`Background::wait`].
    pub fn terminate(self, limit: Duration) -> Result<Output> {
        self.signal(Signal::TERM)?;
        self.wait(limit)
    }

    /// Waits for the exit.
    ///
    /// # Errors
    ///
    /// The program has not exited after `limit`: it is killed, and the error contains its output.
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

/// Waits for `child` to exit.
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

/// A pipe that a thread reads, so that the writer never blocks.
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

    /// The content so far.
    fn text(&self) -> String {
        String::from_utf8_lossy(&locked(&self.bytes)).into_owned()
    }

    fn is_whole(&self) -> bool {
        self.reader.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// The content up to EOF; waits for it.
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
