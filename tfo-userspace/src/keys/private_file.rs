//! Reading a file that its owner alone may read.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::KeyFileError;

/// More than any such file holds.
const MAX_LEN: u64 = 256;
/// Permissions of anyone but the owner.
const OTHERS: u32 = 0o077;

/// What is in the file: up to [`MAX_LEN`] bytes.
pub(super) fn read(path: &Path) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    read_up_to(path, MAX_LEN)
}

/// What is in the file: up to `limit` bytes.
///
/// # Errors
///
/// [`KeyFileError`] where it cannot be read, or others than its owner may.
pub(crate) fn read_up_to(path: &Path, limit: u64) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(read(io::Error::other("not a regular file")));
    }
    if metadata.mode() & OTHERS != 0 {
        return Err(KeyFileError::Exposed {
            path: path.to_owned(),
            mode: metadata.mode() & 0o7777,
        });
    }
    let user = geteuid().as_raw();
    if metadata.uid() != user && metadata.uid() != 0 {
        return Err(KeyFileError::Owner {
            path: path.to_owned(),
            owner: metadata.uid(),
            user,
        });
    }
    // With room for all of it from the start: growing would leave a copy behind in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit as usize + 1));
    file.take(limit).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}
