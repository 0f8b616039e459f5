//! The helper process that sets `TCP_FASTOPEN` on listeners of other processes. It has the two capabilities that takes, which
//! give power over every process of the host, and does nothing else: the service, which parses files and what comes from the
//! network, drops them. They exchange one line of JSON for each request.

use std::{
    env,
    io::{self, BufRead as _, BufReader, Write as _},
    os::{fd::OwnedFd, unix::net::UnixStream},
    process::{Child, Command, Stdio},
    sync::{Arc, Mutex},
    thread,
    time::Duration,
};

use rustix::thread::CapabilitySet;
use tokio::signal::unix::{SignalKind, signal};

use super::{capabilities, mutex::lock};
use crate::listeners::{self, Change, Target};

/// The hidden subcommand that is the helper.
pub const HELPER_COMMAND: &str = "listener-helper";
/// To borrow a socket, and to read which process has it.
const KEPT: CapabilitySet = CapabilitySet::SYS_PTRACE.union(CapabilitySet::DAC_READ_SEARCH);
/// The longest wait for an answer. It looks through the descriptors of all processes.
const TIMEOUT: Duration = Duration::from_secs(5);

type Answer = Result<Vec<Change>, String>;

/// The helper, from the service's side. It ends when the last handle is gone.
#[derive(Clone, Debug)]
pub(super) struct ListenerHelper(Arc<Mutex<Connection>>);

#[derive(Debug)]
struct Connection {
    stream: BufReader<UnixStream>,
    /// The helper, where this process started it.
    child: Option<Child>,
    /// An exchange failed, so that what comes next may be the answer to that.
    broken: bool,
}

impl ListenerHelper {
    /// Starts it with the calling thread's capabilities.
    ///
    /// # Errors
    ///
    /// socketpair(2), fork(2) or execve(2) failed.
    pub(super) fn start() -> io::Result<Self> {
        let (ours, its) = UnixStream::pair()?;
        ours.set_read_timeout(Some(TIMEOUT))?;
        ours.set_write_timeout(Some(TIMEOUT))?;
        // Also where the file was replaced meanwhile, by an upgrade.
        let child = Command::new("/proc/self/exe")
            .arg(HELPER_COMMAND)
            // It tells systemd nothing.
            .env_remove("NOTIFY_SOCKET")
            .stdin(OwnedFd::from(its))
            .stdout(Stdio::null())
            .spawn()?;
        Ok(Self::new(ours, Some(child)))
    }

    fn new(stream: UnixStream, child: Option<Child>) -> Self {
        Self(Arc::new(Mutex::new(Connection {
            stream: BufReader::new(stream),
            child,
            broken: false,
        })))
    }

    /// The helper of another process, which relays what comes by `stream`: see [`Self::relay`].
    ///
    /// # Errors
    ///
    /// `stream` takes no timeout.
    pub(super) fn through(stream: UnixStream) -> io::Result<Self> {
        stream.set_read_timeout(Some(2 * TIMEOUT))?;
        stream.set_write_timeout(Some(TIMEOUT))?;
        Ok(Self::new(stream, None))
    }

    /// Answers the requests that come by `stream`, in a thread that ends with its other end.
    ///
    /// # Errors
    ///
    /// No thread can be started.
    pub(super) fn relay(&self, stream: UnixStream) -> io::Result<()> {
        let helper = self.clone();
        let thread = thread::Builder::new().name("tfo-listeners".to_owned());
        thread
            .spawn(move || serve(stream, |targets| helper.change(&targets)))
            .map(drop)
    }

    /// Has it change listeners.
    ///
    /// # Errors
    ///
    /// The cause and the remedy.
    pub(super) fn change(&self, targets: &[Target]) -> Answer {
        let mut connection = lock(&self.0);
        if connection.broken {
            return Err("the helper process ended: restart the service".to_owned());
        }
        let answer = connection.exchange(targets);
        connection.broken = answer.is_err();
        answer.unwrap_or_else(|error| {
            Err(format!(
                "the helper process does not answer ({error}): restart the service"
            ))
        })
    }
}

impl Connection {
    fn exchange(&mut self, targets: &[Target]) -> io::Result<Answer> {
        let mut line = serde_json::to_string(targets)?;
        line.push('\n');
        self.stream.get_mut().write_all(line.as_bytes())?;
        line.clear();
        match self.stream.read_line(&mut line)? {
            0 => Err(io::ErrorKind::UnexpectedEof.into()),
            _ => Ok(serde_json::from_str(&line)?),
        }
    }
}

impl Drop for Connection {
    fn drop(&mut self) {
        // It ends at the end of its input.
        let _ = self.stream.get_ref().shutdown(std::net::Shutdown::Both);
        if let Some(child) = &mut self.child {
            let _ = child.wait();
        }
    }
}

/// Is the helper: answers requests on standard input, a socket, until its other end is closed.
///
/// # Errors
///
/// It was started by hand, or its capabilities cannot be dropped.
pub fn serve_listener_helper() -> io::Result<()> {
    // The service ends it: a signal for the whole unit or terminal comes to both.
    let _terminate = signal(SignalKind::terminate())?;
    let _interrupt = signal(SignalKind::interrupt())?;
    capabilities::keep(KEPT)?;
    // `/` holds no file system busy.
    env::set_current_dir("/")?;
    let stream = UnixStream::from(rustix::io::dup(io::stdin())?);
    serve(stream, |targets| {
        listeners::change(targets).map_err(|error| error.to_string())
    })
}

/// Answers requests until the other end is closed.
fn serve(stream: UnixStream, mut answer: impl FnMut(Vec<Target>) -> Answer) -> io::Result<()> {
    let mut stream = BufReader::new(stream);
    let mut line = String::new();
    loop {
        line.clear();
        if stream.read_line(&mut line)? == 0 {
            return Ok(());
        }
        let targets: Vec<Target> = serde_json::from_str(&line)?;
        let mut text = serde_json::to_string(&answer(targets))?;
        text.push('\n');
        stream.get_mut().write_all(text.as_bytes())?;
    }
}
