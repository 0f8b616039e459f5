//! Rereads a file only after someone changed it.

use std::{
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

/// Device, inode, size, mtime and ctime with nanoseconds. A rename over the file changes the inode, chmod(1)
/// the ctime.
type Version = [i64; 7];

/// A file, and the version of it that was read last.
#[derive(Debug)]
pub(super) struct WatchedFile {
    path: PathBuf,
    seen: Option<Version>,
}

impl WatchedFile {
    pub(super) const fn new(path: PathBuf) -> Self {
        Self { path, seen: None }
    }

    /// Calls `read` on the file; `None` where the file is unchanged since `read` last succeeded.
    pub(super) fn read_if_changed<T, E>(
        &mut self,
        read: impl FnOnce(&Path) -> Result<T, E>,
    ) -> Result<Option<T>, E> {
        // Taken before the read: a write in between makes another version.
        let version = version(&self.path).ok();
        if version.is_some() && version == self.seen {
            return Ok(None);
        }
        // A failed read is tried again.
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
