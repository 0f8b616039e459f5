//! flock(2) on a directory of pins.

use std::{
    fs, io,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
};

use rustix::fs::{FlockOperation, flock};

/// An exclusive lock on a directory of pins.
pub(crate) struct Lock(fs::File);

impl Lock {
    /// Locks a directory that exists when it is locked; waits for other holders.
    pub(crate) fn take(dir: &Path) -> io::Result<Self> {
        Self::by(FlockOperation::LockExclusive, dir)
    }

    /// As [`Self::take`], but an error of kind [`io::ErrorKind::WouldBlock`] where another process has it.
    pub(crate) fn try_take(dir: &Path) -> io::Result<Self> {
        Self::by(FlockOperation::NonBlockingLockExclusive, dir)
    }

    /// The directory was removed since it was locked. Another one may have its name.
    pub(crate) fn is_gone(&self) -> bool {
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
