//! A service under test. It notifies the test as it would notify systemd.

use std::{
    env, fs,
    os::unix::net::UnixDatagram,
    path::PathBuf,
    process::{self, Command},
    sync::atomic::{AtomicU32, Ordering},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use tfo_testbed::{
    keys::{self, KeyFile},
    netns::Netns,
    poll,
    process::{Background, Output},
    tfo::{self, LIMIT, Tfo},
    veth::SERVER_INTERFACE,
};
use tfo_userspace::model::Fingerprint;

/// Time limit of every wait; the machine may be busy.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Path of the notification socket. Removed on drop.
struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// A running `tfo run`.
pub(crate) struct Running {
    pub(crate) process: Background,
    socket: UnixDatagram,
    _path: SocketPath,
}

impl Running {
    /// Starts `tfo run`, in `netns` if there is one, and waits until it is ready.
    pub(crate) fn start(netns: Option<&Netns>, arguments: &[&str]) -> Result<Self> {
        let mut running = Self::launch(Command::new(tfo::binary()), netns, arguments)?;
        running.wait_for("READY=1")?;
        Ok(running)
    }

    /// Starts `command` with the arguments of `tfo run`.
    pub(crate) fn launch(
        mut command: Command,
        netns: Option<&Netns>,
        arguments: &[&str],
    ) -> Result<Self> {
        static COUNT: AtomicU32 = AtomicU32::new(0);
        let count = COUNT.fetch_add(1, Ordering::Relaxed);
        let path = env::temp_dir().join(format!("tfo-t{}-{count}.notify", process::id()));
        let path = SocketPath(path);
        let socket = UnixDatagram::bind(&path.0)?;
        socket.set_nonblocking(true)?;
        command.arg("run").args(arguments);
        if let Some(netns) = netns {
            command.args(["--netns", netns.name()]);
        }
        let process = Background::start(command.env("NOTIFY_SOCKET", &path.0))?;
        Ok(Self {
            process,
            socket,
            _path: path,
        })
    }

    /// Waits for a notification that contains `text`. Returns the whole notification.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<String> {
        let mut buffer = [0; 4096];
        poll::wait_for(text, PATIENCE, || {
            // Checked before the socket is read, so that no message from before the end is missed.
            let running = self.process.is_running()?;
            while let Ok(len) = self.socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if message.contains(text) {
                    return Ok(Some(message));
                }
            }
            ensure!(running, "tfo ended before: {:?}", self.process.written());
            Ok(None)
        })
    }

    /// Waits until the log contains `text`.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> Result<()> {
        self.process.wait_for_text(text, PATIENCE)
    }

    /// The log so far, of both streams.
    pub(crate) fn log(&self) -> String {
        self.process.written().concat()
    }

    /// Reloads the configuration, and waits until that is done.
    pub(crate) fn reload(&mut self) -> Result<()> {
        self.process.signal(Signal::HUP)?;
        self.wait_for("RELOADING=1")?;
        self.wait_for("READY=1").map(drop)
    }

    /// Stops the service with SIGTERM, and waits for its end.
    pub(crate) fn end(self) -> Result<Output> {
        let output = self.process.terminate(LIMIT)?;
        ensure!(output.status.success(), "{output:#?}");
        Ok(output)
    }

    /// Stops the service. Fails unless its log contains all of `parts`.
    pub(crate) fn end_having_said(self, parts: &[&str]) -> Result<()> {
        let output = self.end()?;
        let log = output.stdout + &output.stderr;
        for part in parts {
            ensure!(log.contains(part), "no {part:?} in {log}");
        }
        Ok(())
    }

    /// Kills the service with SIGKILL.
    pub(crate) fn kill(self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.wait(LIMIT).map(drop)
    }
}

/// Arguments of `tfo run` for keys from `file`.
pub(crate) fn by_file(file: &KeyFile) -> [&str; 6] {
    let interface = SERVER_INTERFACE;
    [
        "-i",
        interface,
        "--key-source",
        "file",
        "--key-file",
        file.path(),
    ]
}

/// Waits until `holds`. `what` names the condition in the error.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    poll::eventually(what, PATIENCE, holds)
}

/// Waits until the kernel of `netns` has these keys.
pub(crate) fn kernel_gets(netns: &Netns, keys: &str) -> Result<Duration> {
    eventually("the kernel has the keys", || {
        Ok(netns.sysctl(keys::SYSCTL)? == keys)
    })
}

/// Fingerprints of the kernel's keys and of the data path's, as `tfo keys show` prints them.
pub(crate) fn fingerprints(tfo: &Tfo) -> Result<[Vec<String>; 2]> {
    let shown = tfo.json(&["keys", "show"])?;
    let list = |name: &str| {
        let list = shown[name].as_array();
        let list = list.with_context(|| format!("no {name} in {shown}"))?;
        Ok::<_, anyhow::Error>(
            list.iter()
                .filter_map(Value::as_str)
                .map(str::to_owned)
                .collect(),
        )
    };
    Ok([list("kernel")?, list("data_path")?])
}

/// Fails unless the data path accepts every key of the kernel.
pub(crate) fn ensure_accepted(tfo: &Tfo) -> Result<()> {
    let [kernel, accepted] = fingerprints(tfo)?;
    ensure!(
        kernel.iter().all(|key| accepted.contains(key)),
        "the kernel has {kernel:?}, the data path {accepted:?}"
    );
    Ok(())
}

/// Fingerprints of keys in the sysctl's format.
pub(crate) fn fingerprints_of(text: &str) -> Result<Vec<String>> {
    let keys = keys::parse(text)?;
    Ok(keys
        .iter()
        .map(|key| Fingerprint::of(key).to_string())
        .collect())
}

/// The `n`th of many keys, in the sysctl's format.
pub(crate) fn numbered(n: u32) -> String {
    format!("{n:08x}-0badcafe-00000000-{:08x}", !n)
}

/// The number of occurrences of `part` in `text`.
pub(crate) fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}
