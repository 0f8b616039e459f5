//! Namespaces under names of a test, a service with metrics that attaches in them, and its processes.

use std::{
    env, fs,
    path::{Path, PathBuf},
    process::{self, Command},
    time::Duration,
};

use anyhow::{Context as _, Result};
use tfo_testbed::{
    http,
    keys::KeyFile,
    pins, process as programs,
    tfo::{self, LIMIT},
};

use super::running::{Running, eventually};

/// The interface that every namespace has.
const INTERFACE: &str = "lo";

pub(crate) fn ip(arguments: &[&str]) -> Result<String> {
    programs::succeed(Command::new("ip").args(arguments), LIMIT)
}

/// A name under `/run/netns`, which no descriptor of this process holds. Removed on drop.
pub(crate) struct Named(pub(crate) String);

impl Named {
    /// A name for the test `test`.
    pub(crate) fn of(test: &str, name: &str) -> Self {
        Self(format!("tfo-t{}-{test}-{name}", process::id()))
    }

    /// Makes a namespace.
    pub(crate) fn new(test: &str, name: &str) -> Result<Self> {
        let named = Self::of(test, name);
        ip(&["netns", "add", &named.0])?;
        Ok(named)
    }

    pub(crate) fn path(&self) -> PathBuf {
        Path::new("/run/netns").join(&self.0)
    }

    /// `SO_NETNS_COOKIE`.
    pub(crate) fn cookie(&self) -> Result<u64> {
        let name = self.0.clone();
        std::thread::spawn(move || {
            tfo_userspace::kernel::netns::enter(&name)?;
            Ok(tfo_userspace::kernel::netns::cookie()?)
        })
        .join()
        .expect("it does not panic")
    }

    pub(crate) fn delete(&self) -> Result<()> {
        ip(&["netns", "del", &self.0]).map(drop)
    }
}

impl Drop for Named {
    fn drop(&mut self) {
        if fs::symlink_metadata(self.path()).is_ok() && self.delete().is_err() {
            drop(fs::remove_file(self.path()));
        }
    }
}

/// The pattern of all names of a test.
pub(crate) fn pattern(test: &str) -> String {
    format!("tfo-t{}-{test}-*", process::id())
}

pub(crate) fn section(name: &str, more: &str) -> String {
    format!("[[namespace]]\nname = '{name}'\ninterfaces = ['{INTERFACE}']\n{more}\n")
}

/// Returns whether the namespace of this cookie has pins of its loopback device, whose index is 1
/// everywhere.
pub(crate) fn is_pinned(cookie: u64) -> bool {
    pins::directory(cookie).join("if1").exists()
}

/// A service with metrics.
pub(crate) struct Service {
    pub(crate) running: Running,
    pub(crate) socket: PathBuf,
    pub(crate) file: KeyFile,
}

impl Service {
    pub(crate) fn start(test: &str, sections: &str) -> Result<Self> {
        Self::start_by(Command::new(tfo::binary()), test, sections)
    }

    /// As [`Self::start`], by a command with an environment of its own.
    pub(crate) fn start_by(command: Command, test: &str, sections: &str) -> Result<Self> {
        let socket = env::temp_dir().join(format!("tfo-t{}-{test}.sock", process::id()));
        let file = KeyFile::new(&Self::text(&socket, sections))?;
        let mut running = Running::launch(command, None, &["-c", file.path()])?;
        running.wait_for("READY=1")?;
        Ok(Self {
            running,
            socket,
            file,
        })
    }

    pub(crate) fn text(socket: &Path, sections: &str) -> String {
        format!(
            "detach-on-exit = true\n[metrics]\nlisten = 'unix:{}'\n{sections}",
            socket.display()
        )
    }

    pub(crate) fn get(&self, path: &str) -> Result<http::Answer> {
        http::request_unix(&self.socket, path)
    }

    pub(crate) fn metrics(&self) -> Result<String> {
        Ok(self.get("/metrics")?.body)
    }

    /// The namespaces of which metrics say that the interface is attached.
    pub(crate) fn attached(&self) -> Result<Vec<String>> {
        let text = self.metrics()?;
        let name = |line: &str| {
            let rest = line.strip_prefix("tfo_interface_attached{netns=\"")?;
            let (name, rest) = rest.split_once('"')?;
            rest.ends_with("} 1").then(|| name.to_owned())
        };
        Ok(text.lines().filter_map(name).collect())
    }

    /// Waits until these, in any order, are the attached namespaces. Gives the time that it took.
    pub(crate) fn becomes(&self, names: &[&Named]) -> Result<Duration> {
        let mut names: Vec<_> = names.iter().map(|name| name.0.clone()).collect();
        names.sort();
        eventually("these namespaces are attached", || {
            let mut attached = self.attached()?;
            attached.sort();
            Ok(attached == names)
        })
    }

    /// Waits until all is well.
    pub(crate) fn is_well(&self) -> Result<()> {
        eventually("all is well", || Ok(self.get("/healthz")?.status == 200)).map(drop)
    }
}

/// The processes that `parent` made, and those that they made.
pub(crate) fn descendants(parent: u32) -> Vec<u32> {
    let path = format!("/proc/{parent}/task/{parent}/children");
    let text = fs::read_to_string(path).unwrap_or_default();
    let children = text.split_whitespace().filter_map(|pid| pid.parse().ok());
    let mut all: Vec<u32> = children.collect();
    for child in all.clone() {
        all.extend(descendants(child));
    }
    all
}

pub(crate) fn status(pid: u32, name: &str) -> Result<String> {
    let text = fs::read_to_string(format!("/proc/{pid}/status"))?;
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    Ok(line
        .with_context(|| format!("no {name}"))?
        .trim()
        .to_owned())
}

pub(crate) fn is_gone(pid: u32) -> bool {
    // A zombie holds nothing any more.
    status(pid, "State:").map_or(true, |state| state.starts_with('Z'))
}
