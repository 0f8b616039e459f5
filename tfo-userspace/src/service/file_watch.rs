//! Notices changes of a file: inotify(7) on its directory, which also reports a rename over the file.
//!
//! This only shortens the delay. The keeper checks the file twice a second anyway, which covers symbolic links and
//! directories that are replaced.

use std::{
    future::pending,
    io,
    os::fd::OwnedFd,
    path::{Path, PathBuf},
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::{Interest, unix::AsyncFd};
use tracing::debug;

/// Bytes of the read buffer: more than the largest event.
const BUFFER: usize = 4096;

/// A watched file, or none.
#[derive(Default)]
pub(super) struct FileWatch {
    path: Option<PathBuf>,
    events: Option<AsyncFd<OwnedFd>>,
}

impl FileWatch {
    /// Watches `path` instead.
    pub(super) fn set(&mut self, path: Option<&Path>) {
        if self.path.as_deref() == path {
            return;
        }
        self.path = path.map(Path::to_owned);
        self.events = path.and_then(|path| {
            let events = watch_directory(path);
            if let Err(error) = &events {
                debug!("no inotify for {}: {error}", path.display());
            }
            events.ok()
        });
    }

    /// Waits for a change in the file's directory; for ever where there is no file. Cancel safe.
    pub(super) async fn changed(&self) {
        let Some(events) = &self.events else {
            return pending().await;
        };
        let Ok(mut ready) = events.readable().await else {
            return pending().await;
        };
        // The events are drained and not looked at.
        let mut buffer = [0; BUFFER];
        while ready
            .try_io(|events| Ok(rustix::io::read(events.get_ref(), &mut buffer)?))
            .is_ok_and(|read| read.is_ok())
        {}
    }
}

fn watch_directory(path: &Path) -> io::Result<AsyncFd<OwnedFd>> {
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
