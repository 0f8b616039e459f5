//! Waiting for sockets.

use std::{
    io,
    os::fd::BorrowedFd,
    time::{Duration, Instant},
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    io::Errno,
};

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
