//! Why a key file or a secret file was refused.

use std::{io, path::PathBuf};

use crate::model::KeyTextError;

/// Why a file with keys, a secret or a password was refused.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// open(2), fstat(2) or read(2) failed, or the file is not a regular one.
    #[error("key file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Group or others have permissions on it.
    #[error("key file {path}: mode {mode:04o} lets other users access it: chmod 0600 {path}, and replace the key if one may have read it", path = path.display())]
    Exposed {
        /// The file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// Neither this process's user nor root owns it, so the owner could replace the key.
    #[error("key file {path}: user {owner} owns it and could replace the key: chown {user} {path}", path = path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// The uid of this process.
        user: u32,
    },
    /// Its text is not a key pair.
    #[error("key file {path}: {source}", path = path.display())]
    Text {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: KeyTextError,
    },
    /// Its bytes are not a secret.
    #[error("secret file {path}: {source}", path = path.display())]
    Secret {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: SecretError,
    },
}

impl KeyFileError {
    /// A [`KeyFileError::Read`] for a file that is not UTF-8.
    pub(crate) fn not_utf8(path: &std::path::Path) -> Self {
        Self::Read {
            path: path.to_owned(),
            source: io::Error::other("it is not UTF-8 text: write it anew"),
        }
    }
}

/// Why bytes are not a secret. It never holds the bytes themselves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// Neither 32 bytes nor 64 digits.
    #[error(
        "it has {0} bytes: write 64 hexadecimal digits on one line (openssl rand -hex 32), or 32 raw bytes"
    )]
    Length(usize),
    /// A character that is not a hexadecimal digit, counted from 1.
    #[error("character {0} of 64 is not a hexadecimal digit")]
    Digit(usize),
}
