//! Waiting, and for how long.

use std::{
    env, io,
    os::fd::BorrowedFd,
    sync::LazyLock,
    time::{Duration, Instant},
};

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
