//! Reads files that only their owner may read.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::Path,
};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::error::KeyFileError;

/// Permission bits of group and others.
const GROUP_AND_OTHERS: u32 = 0o077;

/// Reads up to `limit` bytes.
///
/// # Errors
///
/// [`KeyFileError`] where it cannot be read, is no regular file, is open to other users, or belongs to neither
/// this user nor root.
pub(crate) fn read_private_file(
    path: &Path,
    limit: u64,
) -> Result<Zeroizing<Vec<u8>>, KeyFileError> {
    let read = |source| KeyFileError::Read {
        path: path.to_owned(),
        source,
    };
    let file = File::open(path).map_err(read)?;
    let metadata = file.metadata().map_err(read)?;
    if !metadata.is_file() {
        return Err(read(io::Error::other("not a regular file")));
    }
    if metadata.mode() & GROUP_AND_OTHERS != 0 {
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
    // The whole capacity at once: reallocation would leave an unwiped copy in memory.
    let mut bytes = Zeroizing::new(Vec::with_capacity(limit as usize + 1));
    file.take(limit).read_to_end(&mut bytes).map_err(read)?;
    Ok(bytes)
}
