//! A key file: one line `PRIMARY[,BACKUP]`, readable by its owner alone.

use std::{
    fs::File,
    io::{self, Read as _},
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use zeroize::Zeroizing;

use super::{KeyPair, KeyTextError};

/// More than any key file holds.
const MAX_LEN: u64 = 256;
/// Permissions of anyone but the owner.
const OTHERS: u32 = 0o077;

/// Why a key file was not taken.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// It cannot be read.
    #[error("key file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// Others could read it, too.
    #[error("key file {path}: mode {mode:04o} lets others read it: chmod 0600 {path}, and take a new key if one may have", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Its permissions.
        mode: u32,
    },
    /// It holds no key.
    #[error("key file {path}: {source}", path = path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyTextError,
    },
}

/// Reads the pair in a key file.
///
/// # Errors
///
/// [`KeyFileError`] where it cannot be read, others can read it, or it holds no key.
pub fn read_file(path: &Path) -> Result<KeyPair, KeyFileError> {
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
    // With room for all of it from the start: growing would leave a copy behind in memory.
    let mut text = Zeroizing::new(String::with_capacity(MAX_LEN as usize));
    file.take(MAX_LEN).read_to_string(&mut text).map_err(read)?;
    KeyPair::parse(&text).map_err(|source| KeyFileError::Text {
        path: path.to_owned(),
        source,
    })
}
