//! The configured source of keys.

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use crate::{
    farm::FarmConfig,
    keys::{KeyFileError, Secret, read_key_file},
};

/// The source of a namespace's keys.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySourceConfig {
    /// Random keys, for this host alone.
    Random {
        /// The time for which a key is primary.
        interval: Duration,
    },
    /// Keys derived from a secret and the clock, the same on every host with the secret.
    Secret {
        /// The secret's file.
        path: PathBuf,
        /// The time for which a key is primary, in whole seconds.
        interval: Duration,
    },
    /// Keys that another program writes into a file.
    File {
        /// The file, as [`read_key_file`] reads it.
        path: PathBuf,
    },
    /// Keys of a farm, whose hosts rotate together by way of etcd.
    Etcd(Box<FarmConfig>),
    /// Keys that another program writes into the kernel.
    Kernel,
}

impl KeySourceConfig {
    /// The value of `source` in the file.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Random { .. } => "random",
            Self::Secret { .. } => "secret",
            Self::File { .. } => "file",
            Self::Etcd(_) => "etcd",
            Self::Kernel => "kernel",
        }
    }

    /// The file of the secret or of the keys.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Secret { path, .. } | Self::File { path } => Some(path),
            Self::Random { .. } | Self::Etcd(_) | Self::Kernel => None,
        }
    }

    /// The time for which a key is primary; `None` where others decide.
    pub fn interval(&self) -> Option<Duration> {
        match self {
            Self::Random { interval } | Self::Secret { interval, .. } => Some(*interval),
            Self::Etcd(farm) => Some(farm.interval),
            Self::File { .. } | Self::Kernel => None,
        }
    }

    /// The farm of [`Self::Etcd`].
    pub fn farm(&self) -> Option<&FarmConfig> {
        match self {
            Self::Etcd(farm) => Some(farm),
            _ => None,
        }
    }

    /// Reads the source's files, to find errors early.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] with the file.
    pub fn check(&self) -> Result<(), KeyFileError> {
        match self {
            Self::Secret { path, .. } => Secret::read(path).map(drop),
            Self::File { path } => read_key_file(path).map(drop),
            Self::Etcd(farm) => farm.check(),
            Self::Random { .. } | Self::Kernel => Ok(()),
        }
    }
}
