//! The state of a namespace's keys, for logs, `tfo top` and metrics.

use std::time::SystemTime;

use crate::model::Fingerprint;

/// The state of one namespace's keys, from the process that rotates them. It holds no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KeyReport {
    /// [`super::KeySource::name`] of the source.
    pub source: &'static str,
    /// The key that the kernel issues cookies with.
    pub primary: Option<Fingerprint>,
    /// The time at which it became primary.
    pub since: Option<SystemTime>,
    /// The time of the next change; `None` where no clock decides.
    pub next: Option<SystemTime>,
    /// Changes since the process started.
    pub rotations: u64,
    /// Failed changes since the process started. Each left the keys as they were.
    pub failures: u64,
    /// Changes of the kernel's keys by others since the process started.
    pub foreign_changes: u64,
    /// Why the last change failed; `None` after one succeeded.
    pub last_error: Option<String>,
}
