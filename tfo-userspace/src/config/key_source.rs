//! Where keys come from.

mod file;
mod private;
mod secret;
mod watched;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

pub use file::{KeyFileError, read_file};
pub(crate) use private::read_up_to as read_private;
pub use secret::{Secret, SecretError};
pub(super) use watched::Watched;

use crate::farm::FarmConfig;

/// Where the keys of a namespace come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum SourceConfig {
    /// Made here, for this host alone.
    Random {
        /// How long each is primary.
        interval: Duration,
    },
    /// Derived from a secret and the clock, as other hosts with the same secret do.
    Secret {
        /// The secret's file.
        path: PathBuf,
        /// How long each is primary, in whole seconds.
        interval: Duration,
    },
    /// Those in a file that someone else writes.
    File {
        /// The file, as `tfo keys set` reads it.
        path: PathBuf,
    },
    /// Those of a farm, whose hosts rotate together by way of etcd.
    Etcd(Box<FarmConfig>),
    /// Those of the kernel, which someone else writes.
    Kernel,
}

impl SourceConfig {
    /// What it is called.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Random { .. } => "random",
            Self::Secret { .. } => "secret",
            Self::File { .. } => "file",
            Self::Etcd(_) => "etcd",
            Self::Kernel => "kernel",
        }
    }

    /// The file that it reads.
    pub fn path(&self) -> Option<&Path> {
        match self {
            Self::Secret { path, .. } | Self::File { path } => Some(path),
            Self::Random { .. } | Self::Etcd(_) | Self::Kernel => None,
        }
    }

    /// Its farm, if it has one.
    pub fn farm(&self) -> Option<&FarmConfig> {
        match self {
            Self::Etcd(farm) => Some(farm),
            _ => None,
        }
    }

    /// Makes sure that keys can be had from it now.
    ///
    /// # Errors
    ///
    /// [`KeyFileError`] where its file cannot be read, others can read it, or it holds nothing of use.
    pub fn check(&self) -> Result<(), KeyFileError> {
        match self {
            Self::Secret { path, .. } => Secret::read(path).map(drop),
            Self::File { path } => read_file(path).map(drop),
            Self::Etcd(farm) => farm.check(),
            Self::Random { .. } | Self::Kernel => Ok(()),
        }
    }
}

/// What to do where someone else changes the kernel's keys.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnForeignChange {
    /// Put the keys of the source back.
    #[default]
    Restore,
    /// Take theirs, until the source has the next ones.
    Follow,
}
