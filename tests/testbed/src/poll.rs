//! Waiting, and for how long.

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

/// The limit, for this machine.
pub fn patient(limit: Duration) -> Duration {
    limit * *PATIENCE
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
    while start.elapsed() < limit {
        if holds()? {
            return Ok(start.elapsed());
        }
        thread::sleep(Duration::from_millis(2));
    }
    bail!("not within {limit:?}: {what}")
}

/// Waits until one of `sockets` is `ready`, or has failed; `false` where none is after `limit`.
///
/// A signal does not end it: a process that starts others gets many.
pub(crate) fn any_ready(
    sockets: &[BorrowedFd<'_>],
    ready: PollFlags,
    limit: Duration,
) -> io::Result<bool> {
    let deadline = Instant::now() + limit;
    let mut waiting: Vec<_> = sockets
        .iter()
        .map(|socket| PollFd::from_borrowed_fd(*socket, ready))
        .collect();
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let left = Timespec::try_from(left).map_err(|_| io::ErrorKind::InvalidInput)?;
        match poll(&mut waiting, Some(&left)) {
            Err(Errno::INTR) => {}
            result => return Ok(result? > 0),
        }
    }
}
