//! A key file: one line `PRIMARY[,BACKUP]`, readable by its owner alone.

use std::{
    io,
    path::{Path, PathBuf},
};

use super::{SecretError, private};
use crate::keys::{KeyPair, KeyTextError};

/// Why a file with keys, or with the secret that makes them, was not taken.
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
    /// Someone else can write it.
    #[error("key file {path}: user {owner} owns it, who could put keys of their own there: chown {user} {path}", path = path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Whose it is.
        owner: u32,
        /// Whose it should be.
        user: u32,
    },
    /// It holds no key.
    #[error("key file {path}: {source}", path = path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: KeyTextError,
    },
    /// It holds no secret.
    #[error("secret file {path}: {source}", path = path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        source: SecretError,
    },
}

/// Reads the pair in a key file.
///
/// # Errors
///
/// [`KeyFileError`] where it cannot be read, others can read it, or it holds no key.
pub fn read_file(path: &Path) -> Result<KeyPair, KeyFileError> {
    let bytes = private::read(path)?;
    let text = str::from_utf8(&bytes).map_err(|_| KeyFileError::Read {
        path: path.to_owned(),
        source: io::Error::other("stream did not contain valid UTF-8"),
    })?;
    KeyPair::parse(text).map_err(|source| KeyFileError::Text {
        path: path.to_owned(),
        source,
    })
}
