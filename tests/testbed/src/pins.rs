//! The lock of a network namespace's pins.

use std::fs::File;

use anyhow::{Context as _, Result};
use rustix::fs::{FlockOperation, flock};
use tfo_common::abi::LAYOUT_VERSION;

use crate::netns::Netns;

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
        let cookie = netns.run(tfo_userspace::kernel::netns::cookie)?;
        let path = format!("/sys/fs/bpf/tfo/v{LAYOUT_VERSION}/net{cookie}");
        let directory = File::open(&path).with_context(|| format!("cannot open {path}"))?;
        flock(&directory, FlockOperation::LockExclusive)?;
        Ok(Self {
            _directory: directory,
        })
    }
}
