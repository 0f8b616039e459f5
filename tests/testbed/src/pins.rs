//! Where the pins of a network namespace are, and their lock.

use std::{fs::File, path::PathBuf};

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use tfo_common::abi::LAYOUT_VERSION;

use crate::netns::Netns;

/// Returns the directory of the pins of the namespace with this cookie (`SO_NETNS_COOKIE`).
#[must_use]
pub fn directory(cookie: u64) -> PathBuf {
    format!("/sys/fs/bpf/tfo/v{LAYOUT_VERSION}/net{cookie}").into()
}

/// Returns the directory of the pins of `netns`.
///
/// # Errors
///
/// The kernel does not tell the namespace's cookie.
pub fn directory_of(netns: &Netns) -> Result<PathBuf> {
    Ok(directory(netns.run(tfo_userspace::kernel::netns::cookie)?))
}

/// The lock, held until this is dropped. Meanwhile nobody changes the pins, and no process of another namespace removes
/// those whose interface is gone.
pub struct PinsLock {
    _directory: File,
}

impl PinsLock {
    /// Waits for the lock, and takes it.
    ///
    /// # Errors
    ///
    /// Nothing is pinned for the namespace.
    pub fn take(netns: &Netns) -> Result<Self> {
        let path = directory_of(netns)?;
        let directory =
            File::open(&path).with_context(|| format!("cannot open {}", path.display()))?;
        flock(&directory, FlockOperation::LockExclusive)?;
        Ok(Self {
            _directory: directory,
        })
    }
}
