//! A service under test, which tells the test what it would tell systemd.

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

/// How long a state that has to come may take to come; the machine may have other work.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);

/// Where the service finds the test. Removed on drop.
struct SocketPath(PathBuf);

impl Drop for SocketPath {
    fn drop(&mut self) {
        drop(fs::remove_file(&self.0));
    }
}

/// A `tfo run`.
pub(crate) struct Running {
    pub(crate) process: Background,
    socket: UnixDatagram,
    _path: SocketPath,
}

impl Running {
    /// Starts one in `netns`, if it is to be in one, and waits until it is ready.
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

    /// Waits until it says something with `text` in it. Gives all of that message.
    pub(crate) fn wait_for(&mut self, text: &str) -> Result<String> {
        let mut buffer = [0; 4096];
        poll::wait_for(text, PATIENCE, || {
            // Whatever it said before it ended is there when it has.
            let running = self.process.is_running()?;
            while let Ok(len) = self.socket.recv(&mut buffer) {
                let message = String::from_utf8_lossy(&buffer[..len]).into_owned();
                if message.contains(text) {
                    return Ok(Some(message));
                }
            }
            ensure!(running, "it ended before: {:?}", self.process.written());
            Ok(None)
        })
    }

    /// Waits until it has logged `text`.
    pub(crate) fn wait_for_log(&mut self, text: &str) -> Result<()> {
        self.process.wait_for_text(text, PATIENCE)
    }

    /// All that it has logged so far.
    pub(crate) fn log(&self) -> String {
        self.process.written().concat()
    }

    /// Has it read its configuration again, and waits until it has.
    pub(crate) fn reload(&mut self) -> Result<()> {
        self.process.signal(Signal::HUP)?;
        self.wait_for("RELOADING=1")?;
        self.wait_for("READY=1").map(drop)
    }

    /// Asks it to end.
    pub(crate) fn end(self) -> Result<Output> {
        let output = self.process.terminate(LIMIT)?;
        ensure!(output.status.success(), "{output:#?}");
        Ok(output)
    }

    /// Ends it; its log must have had all of these.
    pub(crate) fn end_having_said(self, parts: &[&str]) -> Result<()> {
        let output = self.end()?;
        let log = output.stdout + &output.stderr;
        for part in parts {
            ensure!(log.contains(part), "no {part:?} in {log}");
        }
        Ok(())
    }

    /// Kills it.
    pub(crate) fn kill(self) -> Result<()> {
        self.process.signal(Signal::KILL)?;
        self.process.wait(LIMIT).map(drop)
    }
}

/// Arguments that take the keys from `file`.
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

/// Waits until `holds`; `what` is said where it does not come to that.
pub(crate) fn eventually(what: &str, holds: impl FnMut() -> Result<bool>) -> Result<Duration> {
    poll::eventually(what, PATIENCE, holds)
}

/// Waits until the kernel of `netns` has these keys.
pub(crate) fn kernel_gets(netns: &Netns, keys: &str) -> Result<Duration> {
    eventually("the kernel has the keys", || {
        Ok(netns.sysctl(keys::SYSCTL)? == keys)
    })
}

/// What the kernel has and what the data path accepts, as `tfo keys show` tells.
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

/// Makes sure that the data path accepts whatever the kernel does.
pub(crate) fn ensure_accepted(tfo: &Tfo) -> Result<()> {
    let [kernel, accepted] = fingerprints(tfo)?;
    ensure!(
        kernel.iter().all(|key| accepted.contains(key)),
        "the kernel has {kernel:?}, the data path {accepted:?}"
    );
    Ok(())
}

/// The fingerprints of a kernel's text.
pub(crate) fn fingerprints_of(text: &str) -> Result<Vec<String>> {
    let keys = keys::parse(text)?;
    Ok(keys
        .iter()
        .map(|key| Fingerprint::of(key).to_string())
        .collect())
}

/// The `n`th of many keys, in the kernel's text.
pub(crate) fn numbered(n: u32) -> String {
    format!("{n:08x}-0badcafe-00000000-{:08x}", !n)
}

/// How often `part` is in `text`.
pub(crate) fn count(text: &str, part: &str) -> usize {
    text.matches(part).count()
}
