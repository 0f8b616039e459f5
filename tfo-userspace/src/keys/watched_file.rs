//! A file that someone else writes.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// What tells a version of a file from the next one: device, inode, size, and both times to the
/// nanosecond. A rename over it changes the inode, chmod(1) the time of its change.
type Version = [i64; 7];

/// A file, and the version of it that was read last.
#[derive(Debug)]
pub(in crate::keys) struct Watched {
    path: PathBuf,
    seen: Option<Version>,
}

impl Watched {
    pub(in crate::keys) const fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// Reads it with `read`, unless it is as it was when that succeeded last: `None` then.
    pub(in crate::keys) fn read_if_changed<T, E>(
        &mut self,
        read: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        // Before it is read: what is written meanwhile is another version.
        let version = version(&self.path).ok();
        if version.is_some() && version == self.seen {
            return Ok(None);
        }
        // Until it has been read, whatever stands there is new.
        self.seen = None;
        let value = read(&self.path)?;
        self.seen = version;
        Ok(Some(value))
    }
}

fn version(path: &Path) -> io::Result<Version> {
    let file = fs::metadata(path)?;
    Ok([
        file.dev().cast_signed(),
        file.ino().cast_signed(),
        file.size().cast_signed(),
        file.mtime(),
        file.mtime_nsec(),
        file.ctime(),
        file.ctime_nsec(),
    ])
}
