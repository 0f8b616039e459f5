//! Wakes when something happens beside a file: inotify(7) on its directory, so that a file which replaces
//! it by rename is noticed at once.
//!
//! It is a convenience. Whoever waits looks twice a second in any case, which is what counts where the file
//! is behind a symbolic link, or the directory itself is replaced.

use std::{
    future::pending,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::debug;

/// More than an event with the longest name takes.
const BUFFER: usize = 4096;

/// A file that is waited for, or none.
#[derive(Default)]
pub(super) struct Watch {
    path: Option<PathBuf>,
    events: Option<AsyncFd<OwnedFd>>,
}

impl Watch {
    /// Waits for this file from now on.
    pub(super) fn set(&mut self, path: Option<&Path>) {
        if self.path.as_deref() == path {
            return;
        }
        self.path = path.map(Path::to_owned);
        self.events = path.and_then(|path| {
            let events = directory(path);
            if let Err(error) = &events {
                debug!("no inotify for {}: {error}", path.display());
            }
            events.ok()
        });
    }

    /// Returns when something happened there; never, where there is nothing to wait for.
    pub(super) async fn changed(&self) {
        let Some(events) = &self.events else {
            return pending().await;
        };
        let Ok(mut ready) = events.readable().await else {
            return pending().await;
        };
        // What it was does not matter.
        let mut buffer = [0; BUFFER];
        while ready
            .try_io(|events| Ok(rustix::io::read(events.get_ref(), &mut buffer)?))
            .is_ok_and(|read| read.is_ok())
        {}
    }
}

fn directory(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    let events = inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK)?;
    let flags = WatchFlags::CLOSE_WRITE
        | WatchFlags::MOVED_TO
        | WatchFlags::ATTRIB
        | WatchFlags::DELETE
        | WatchFlags::ONLYDIR;
    inotify::add_watch(&events, directory, flags)?;
    // SAFETY: the `AsyncFd` owns the descriptor, which closes only when it goes.
    unsafe { AsyncFd::register_with_interest(events, Interest::READABLE) }.map_err(Into::into)
}
