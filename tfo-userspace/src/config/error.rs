//! Why a configuration was refused.

use std::{io, path::PathBuf};

use crate::{keys::KeyFileError, policy::ListError};

/// Why a configuration was refused.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The cause.
        source: io::Error,
    },
    /// Group or others may write it.
    #[error("configuration file {path}: mode {mode:04o} lets other users change it: chmod go-w {path}, after a look at what it says", path = path.display())]
    Writable {
        /// The file.
        path: PathBuf,
        /// Permission bits.
        mode: u32,
    },
    /// Neither this process's user nor root owns it.
    #[error("configuration file {path}: user {owner} owns it and could change it: chown {user} {path}", path = path.display())]
    Owner {
        /// The file.
        path: PathBuf,
        /// Its owner's uid.
        owner: u32,
        /// The uid of this process.
        user: u32,
    },
    /// A value in the file or on the command line is invalid.
    #[error("{place}: {message}")]
    Invalid {
        /// `FILE:LINE`, `FILE` or `command line`.
        place: String,
        /// The mistake and its remedy.
        message: String,
    },
    /// A file of the key source was refused.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A prefix list of a policy was refused.
    #[error(transparent)]
    List(#[from] ListError),
}
