//! Lifecycle of the data path: attach, upgrade, killed processes, deleted and moved interfaces, and locks.

mod attach;
mod clsact;
mod follow;
mod leftovers;
mod locks;
mod moved;
mod upgrade;

use std::{process::Command, time::Duration};

use anyhow::{Context as _, Result};
use tfo_testbed::{netns::Netns, pins, poll, tfo};

/// Time limit of every wait.
const LIMIT: Duration = Duration::from_secs(60);

/// Polls `found` until it returns a value.
fn wait_for<T>(what: &str, found: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    poll::wait_for(what, LIMIT, found).with_context(|| what.to_owned())
}

/// A shell that runs `script` in a new mount namespace, with `$tfo` and `$net`, the arguments that select `netns`.
fn shell(netns: &Netns, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", script])
        .env("tfo", tfo::binary())
        .env("net", format!("--netns={}", netns.name()));
    command
}

/// `true` if the namespace with this cookie has pins.
fn is_pinned(cookie: u64) -> bool {
    pins::directory(cookie).exists()
}

/// The namespace's cookie (`SO_NETNS_COOKIE`), which names its pins.
fn cookie(netns: &Netns) -> Result<u64> {
    Ok(netns.run(tfo_userspace::kernel::netns::cookie)?)
}
