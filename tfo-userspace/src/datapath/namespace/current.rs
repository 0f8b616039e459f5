//! The namespace itself: its cookie, its pins, its lock.

use std::time::Duration;

use crate::{
    datapath::{
        error::DatapathError,
        pins::{Lock, NamespacePins},
    },
    kernel::netns::{self, NetnsError},
};

/// The calling thread's network namespace.
#[derive(Clone, Debug)]
pub struct Namespace {
    cookie: u64,
    pins: NamespacePins,
}

impl Namespace {
    /// Identifies the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// [`NetnsError::Cookie`] before Linux 5.14.
    pub fn current() -> Result<Self, NetnsError> {
        Ok(Self::of(netns::cookie()?))
    }

    /// The namespace of this cookie, which need not be the calling thread's: only its pins can be read.
    pub(crate) fn of(cookie: u64) -> Self {
        Self {
            cookie,
            pins: NamespacePins::new(cookie),
        }
    }

    /// `SO_NETNS_COOKIE`: unique until the next boot.
    pub const fn cookie(&self) -> u64 {
        self.cookie
    }

    pub(crate) const fn pins(&self) -> &NamespacePins {
        &self.pins
    }

    /// Locks out other processes; `None` where nothing is attached.
    pub(crate) fn lock(&self) -> Result<Option<Lock>, DatapathError> {
        self.pins.lock()
    }

    /// Takes the lock where something is attached, and releases it at once.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Locked`] where one process has it for longer than `limit`, or it cannot be taken.
    pub fn try_lock(&self, limit: Duration) -> Result<(), DatapathError> {
        self.pins.lock_within(limit).map(drop)
    }
}
