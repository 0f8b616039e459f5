//! Waiting, and for how long. Every limit of the testbed is multiplied by `TFO_PATIENCE` here and nowhere else.

use std::{
    env, io,
    os::fd::BorrowedFd,
    sync::LazyLock,
    thread,
    time::{Duration, Instant},
};

use anyhow::{Result, bail};
use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

/// By what all limits are multiplied: `TFO_PATIENCE`, for a machine that is emulated and slow.
static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    let set = env::var("TFO_PATIENCE").ok();
    set.and_then(|number| number.parse().ok()).unwrap_or(1)
});

/// A moment after which waiting is over.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// The moment that is `limit` away, on a machine that is idle and fast.
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now() + scaled(limit))
    }

    /// This very moment, however slow the machine is.
    pub(crate) const fn at(moment: Instant) -> Self {
        Self(moment)
    }

    /// How much time is left.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

/// The limit for this machine: for a time limit that another program or the kernel keeps.
pub(crate) fn scaled(limit: Duration) -> Duration {
    limit * *PATIENCE
}

/// Asks every few milliseconds until `found` gives something.
///
/// # Errors
///
/// Those of `found`; or `what`, where it gives nothing within `limit`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut found: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        // What has come about when time is up is not too late: this thread may have been kept waiting.
        let is_over = deadline.is_over();
        if let Some(found) = found()? {
            return Ok(found);
        }
        if is_over {
            bail!("not within {:?}: {what}", scaled(limit));
        }
        thread::sleep(Duration::from_millis(2));
    }
}

/// Asks every few milliseconds until `holds`, and gives how long that took.
///
/// # Errors
///
/// Those of `holds`; or `what`, where it does not come to that within `limit`.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    wait_for(what, limit, || Ok(holds()?.then(|| start.elapsed())))
}

/// Waits until one of `sockets` is `ready`, or has failed; `false` where none is by then.
///
/// A signal does not end it: a process that starts others gets many.
pub(crate) fn any_ready(
    sockets: &[BorrowedFd<'_>],
    ready: PollFlags,
    deadline: Deadline,
) -> io::Result<bool> {
    let mut waiting: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::from_borrowed_fd(*socket, ready))
        .collect();
    loop {
        let left = Timespec::try_from(deadline.left()).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut waiting, Some(&left)) {
            Err(Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}
