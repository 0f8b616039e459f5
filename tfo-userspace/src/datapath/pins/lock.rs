//! Locks on directories of pins.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// Holds others off a directory of pins while it lives.
pub(super) struct Lock(fs::File);

impl Lock {
    /// Of a directory that stands there when it is locked. Waits for whoever else has it.
    pub(super) fn take(dir: &Path) -> io::Result<Self> {
        Self::by(FlockOperation::LockExclusive, dir)
    }

    /// As [`Self::take`], but an error of kind [`io::ErrorKind::WouldBlock`] where someone else has it.
    pub(super) fn try_take(dir: &Path) -> io::Result<Self> {
        Self::by(FlockOperation::NonBlockingLockExclusive, dir)
    }

    /// The directory was removed meanwhile, whatever stands in its place now.
    pub(super) fn is_gone(&self) -> bool {
        self.0.metadata().is_ok_and(|dir| dir.nlink() == 0)
    }

    fn by(operation: FlockOperation, dir: &Path) -> io::Result<Self> {
        loop {
            let file = fs::File::open(dir)?;
            flock(file.as_fd(), operation)?;
            let lock = Self(file);
            if !lock.is_gone() {
                return Ok(lock);
            }
        }
    }
}
