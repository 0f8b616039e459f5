//! Reads files that only their owner may read.

use std::{os::unix::fs::MetadataExt as _, path::Path};

use rustix::process::geteuid;
use zeroize::Zeroizing;

use super::error::KeyFileError;
use crate::kernel::regular_file;

/// Permission bits of group and others.
const GROUP_AND_OTHERS: u32 = 0o077;

/// Reads a file of at most `limit` bytes.
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
    let (file, metadata) = regular_file::open(path).map_err(read)?;
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
    regular_file::read_all(file, limit).map_err(read)
}
