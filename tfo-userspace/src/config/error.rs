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
