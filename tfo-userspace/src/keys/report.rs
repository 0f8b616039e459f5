//! What the controller says of the keys it looks after, for logs, `tfo top` and metrics.

use std::time::SystemTime;

use super::Fingerprint;

/// The state of one namespace's keys, as the process that rotates them sees it. It holds no key.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct KeyReport {
    /// Where keys come from: `random`, `secret`, `file` or `kernel`.
    pub source: &'static str,
    /// Of the key that cookies are issued with.
    pub primary: Option<Fingerprint>,
    /// When it became primary.
    pub since: Option<SystemTime>,
    /// When the next change is due; `None` where the source decides.
    pub next: Option<SystemTime>,
    /// Changes that came into force since the process began.
    pub rotations: u64,
    /// Changes that failed, and changed nothing.
    pub failures: u64,
    /// How often someone else changed the kernel's keys.
    pub foreign_changes: u64,
    /// Why the last change failed; `None` once one came into force again.
    pub last_error: Option<String>,
}
