//! flock(2) on a directory of pins. Other users cannot open the directory (mode 0700), and so cannot lock it.

use std::{
    fs,
    os::{fd::AsFd as _, unix::fs::MetadataExt as _},
    path::Path,
    thread,
    time::{Duration, Instant},
};

use rustix::{
    fs::{FlockOperation, flock},
    io::Errno,
};
use tracing::warn;

use super::files::found;
use crate::{
    datapath::error::DatapathError,
    kernel::{locks::LockHolder, test_hook::test_hook},
};

/// The longest wait for one holder. It starts anew with the next holder: the others then do make progress.
const LIMIT: Duration = Duration::from_secs(10);
/// A wait of this length is logged.
const LONG: Duration = Duration::from_secs(1);
/// Between two tries, and between two looks at the holder.
const PAUSE: Duration = Duration::from_millis(5);
const LOOK: Duration = Duration::from_millis(250);

/// An exclusive lock on a directory of pins.
pub(crate) struct Lock(fs::File);

impl Lock {
    /// Locks a directory that exists when it is locked, and waits for another holder, within bounds; `None` where
    /// there is no such directory.
    pub(crate) fn take(dir: &Path) -> Result<Option<Self>, DatapathError> {
        Self::take_within(dir, limit())
    }

    /// As [`Self::take`], but waits for one holder no longer than `limit`.
    pub(crate) fn take_within(dir: &Path, limit: Duration) -> Result<Option<Self>, DatapathError> {
        let mut wait = Wait::new(limit);
        loop {
            match Self::attempt(dir)? {
                Attempt::Taken(lock) => return Ok(Some(lock)),
                Attempt::Absent => return Ok(None),
                Attempt::Held(file) => wait.go_on(dir, &file)?,
            }
        }
    }

    /// As [`Self::take`], but `None` also where another process holds the lock.
    pub(crate) fn try_take(dir: &Path) -> Result<Option<Self>, DatapathError> {
        Ok(match Self::attempt(dir)? {
            Attempt::Taken(lock) => Some(lock),
            Attempt::Absent | Attempt::Held(_) => None,
        })
    }

    /// The directory was removed since it was locked. Another one may have its name.
    pub(crate) fn is_gone(&self) -> bool {
        self.0.metadata().is_ok_and(|dir| dir.nlink() == 0)
    }

    fn attempt(dir: &Path) -> Result<Attempt, DatapathError> {
        loop {
            let opened = found(fs::File::open(dir)).map_err(DatapathError::io(dir))?;
            let Some(file) = opened else {
                return Ok(Attempt::Absent);
            };
            match flock(file.as_fd(), FlockOperation::NonBlockingLockExclusive) {
                Ok(()) => {}
                Err(Errno::WOULDBLOCK) => return Ok(Attempt::Held(file)),
                Err(error) => {
                    return Err(DatapathError::Lock {
                        path: dir.to_owned(),
                        source: error.into(),
                    });
                }
            }
            let lock = Self(file);
            if !lock.is_gone() {
                return Ok(Attempt::Taken(lock));
            }
        }
    }
}

/// The result of one try.
enum Attempt {
    Taken(Lock),
    /// There is no such directory.
    Absent,
    /// Another process holds the lock on this file.
    Held(fs::File),
}

/// A wait for a lock.
struct Wait {
    limit: Duration,
    holder: Option<LockHolder>,
    /// The time at which this holder was first seen.
    since: Instant,
    next_look: Instant,
    logged: bool,
}

impl Wait {
    fn new(limit: Duration) -> Self {
        let now = Instant::now();
        Self {
            limit,
            holder: None,
            since: now,
            next_look: now,
            logged: false,
        }
    }

    /// Waits until the next try; an error where one process has held the lock on `file` for too long.
    fn go_on(&mut self, dir: &Path, file: &fs::File) -> Result<(), DatapathError> {
        let now = Instant::now();
        if now >= self.next_look {
            self.next_look = now + LOOK;
            let holder = LockHolder::of(file);
            if self.holder.as_ref() != Some(&holder) {
                self.since = now;
            }
            let waited = self.since.elapsed();
            if waited >= self.limit {
                return Err(DatapathError::Locked {
                    path: dir.to_owned(),
                    holder: holder.to_string(),
                    seconds: waited.as_secs(),
                });
            }
            if waited >= LONG && !self.logged {
                self.logged = true;
                warn!("waiting for {holder}, which has {} locked", dir.display());
            }
            self.holder = Some(holder);
        }
        thread::sleep(PAUSE);
        Ok(())
    }
}

/// [`LIMIT`], or what a test sets, in seconds.
fn limit() -> Duration {
    test_hook!("TFO_TEST_LOCK_WAIT").map_or(LIMIT, Duration::from_secs)
}
