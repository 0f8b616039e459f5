//! Life and death of the data path: what happens to it, to its counts and to its keys when programs are
//! upgraded, processes are killed, interfaces vanish, and several want the same.

mod attach;
mod clsact;
mod follow;
mod leftovers;
mod locks;
mod upgrade;

use std::{
    path::Path,
    process::Command,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};
use tfo_testbed::{netns::Netns, tfo};

/// How long anything may take that is waited for, on a busy machine.
const LIMIT: Duration = Duration::from_secs(60);

/// Asks again and again until `found` gives something.
fn wait_for<T>(what: &str, mut found: impl FnMut() -> Result<Option<T>>) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    while Instant::now() < deadline {
        if let Some(found) = found().with_context(|| what.to_owned())? {
            return Ok(found);
        }
        thread::sleep(Duration::from_millis(20));
    }
    bail!("{what}: not within {LIMIT:?}")
}

/// A shell that runs `script` in a mount namespace of its own, with `$tfo` and `$net`, the arguments that
/// have it act in `netns`.
fn shell(netns: &Netns, script: &str) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec", script])
        .env("tfo", tfo::binary())
        .env("net", format!("--netns={}", netns.name()));
    command
}

/// Whether a directory of pins is there.
fn is_pinned(cookie: u64) -> bool {
    let pins = format!(
        "/sys/fs/bpf/tfo/v{}/net{cookie}",
        tfo_common::abi::LAYOUT_VERSION
    );
    Path::new(&pins).exists()
}

/// What tells a namespace from others.
fn cookie(netns: &Netns) -> Result<u64> {
    Ok(netns.run(tfo_userspace::kernel::netns::cookie)?)
}
