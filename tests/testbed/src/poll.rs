//! Polling with deadlines. All time limits of the testbed are multiplied by `TFO_PATIENCE`, here and nowhere else.

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

/// Factor of all time limits, from `TFO_PATIENCE`; for slow, emulated machines.
static PATIENCE: LazyLock<u32> = LazyLock::new(|| {
    let set = env::var("TFO_PATIENCE").ok();
    set.and_then(|number| number.parse().ok()).unwrap_or(1)
});

/// End of a wait.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    /// `limit` from now, multiplied by `TFO_PATIENCE`.
    pub(crate) fn after(limit: Duration) -> Self {
        Self(Instant::now() + scaled(limit))
    }

    /// Remaining time.
    pub(crate) fn left(self) -> Duration {
        self.0.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_over(self) -> bool {
        self.left().is_zero()
    }
}

/// `limit` multiplied by `TFO_PATIENCE`; for timeouts that the kernel or another program enforces.
pub(crate) fn scaled(limit: Duration) -> Duration {
    limit * *PATIENCE
}

/// Polls `found` every 2 ms until it returns a value.
///
/// # Errors
///
/// Those of `found`, or no value within `limit`; the error then names `what`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut found: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Deadline::after(limit);
    loop {
        // Check once more after the deadline: this thread may not have been scheduled.
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

/// Polls `holds` every 2 ms until it is `true`. Returns the time it took.
///
/// # Errors
///
/// Those of `holds`, or it stays `false` for `limit`; the error then names `what`.
pub fn eventually(
    what: &str,
    limit: Duration,
    mut holds: impl FnMut() -> Result<bool>,
) -> Result<Duration> {
    let start = Instant::now();
    wait_for(what, limit, || Ok(holds()?.then(|| start.elapsed())))
}

/// Waits until one of `sockets` is `ready` or has an error; `false` if none is by the deadline.
///
/// Restarts after `EINTR`: `SIGCHLD` is frequent in a process with children.
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
