//! Why a key file or a secret file was refused.

use std::{io, path::PathBuf};

use tfo_common::fastopen::own::OwnCookies;

use crate::model::KeyTextError;

/// Most secrets that are given: those of one lifetime, the one that issues and a staged one.
pub(crate) const MOST_SECRETS: usize = OwnCookies::MAX_LIFETIME as usize + 2;

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
    /// Its text is not a list of secrets.
    #[error("file of secrets {path}: {source}", path = path.display())]
    Given {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: GivenSecretsError,
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

/// Why a text is no list of secrets of own cookies. It never holds the text itself.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum GivenSecretsError {
    /// Not `NUMBER SECRET`, counted from 1.
    #[error(
        "line {0} is not NUMBER SECRET, or NUMBER SECRET issues: write a number below 4294967296, and a secret as 8-8-8-8 hexadecimal digits"
    )]
    Line(usize),
    /// A number that does not follow the one before.
    #[error(
        "line {0} does not have the number after the one before it: number the secrets one by one, the oldest first"
    )]
    Number(usize),
    /// No line with `issues`, or more than one.
    #[error("no line or several end with `issues`: mark the one secret that issues cookies")]
    Issues,
    /// More secrets than the longest lifetime needs.
    #[error("it has {0} secrets: remove the oldest, until {most} are left", most = MOST_SECRETS)]
    TooMany(usize),
}
