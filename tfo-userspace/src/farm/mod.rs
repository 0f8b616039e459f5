//! A farm: hosts behind one address, which have the same keys and rotate them together.
//!
//! - [`phase`]: what is in force when, and when the farm goes on: the whole protocol, without any effect.
//! - [`document`]: where the farm stands, as it is stored.
//! - `etcd`: where that is stored, and what is done to it there.
//! - `part`: a host's part, for whoever keeps its keys; `agent`: what it does there; `leader`: what one of
//!   them does besides.
//! - `state`: what a host has stored.
//! - [`control`]: what people ask of a farm.

mod agent;
mod config;
pub mod control;
pub mod document;
mod etcd;
mod leader;
mod part;
pub mod phase;
mod report;
mod state;

use std::path::PathBuf;

pub use config::FarmConfig;
pub use etcd::{Record, Wish};
pub use report::{FarmReport, published};

pub(crate) use part::{Farm, InForce, Link};
pub(crate) use report::Published;

use crate::keys::KeyFileError;

/// What keeps a host from its farm. The keys stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// etcd is away, or refuses.
    #[error("etcd at {place}: {error}: {remedy}")]
    Etcd {
        /// Its endpoints.
        place: String,
        /// Its word, or that of whoever did not get through.
        error: String,
        /// What to do.
        remedy: String,
    },
    /// A file of the section `[farm]` cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// Nothing is there.
    #[error(
        "etcd has no document {0}document: look at the prefix, or found the farm: `tfo farm init`"
    )]
    NoDocument(String),
    /// What is there is of no use.
    #[error("etcd's document {prefix}document: {error}")]
    Document {
        /// Where it is.
        prefix: String,
        /// What is wrong.
        error: document::DocumentError,
    },
    /// What is there is of another farm.
    #[error("etcd's document {prefix}document is of another farm than this host: look at the prefix; to have the host join it, stop the service and remove {state}", state = state.display())]
    OtherFarm {
        /// Where it is.
        prefix: String,
        /// What this host has stored.
        state: PathBuf,
    },
    /// What is there is not the next.
    #[error(
        "etcd's document {prefix}document: {error}: where etcd was set back, `tfo farm init --replace` on the host that is furthest puts its own there"
    )]
    OutOfSequence {
        /// Where it is.
        prefix: String,
        /// What is wrong.
        error: phase::OutOfSequence,
    },
    /// What is there cannot be kept.
    #[error(transparent)]
    Store(#[from] state::StoreError),
    /// Another host has this one's name.
    #[error(
        "another host of the farm is called {0}, too: give each its own name, as in [farm] host = \"web-1\""
    )]
    NameTaken(String),
    /// etcd took this host for dead.
    #[error("etcd has not heard of this host for too long: it starts anew")]
    Lease,
    /// No random numbers.
    #[error("no random key from the kernel: {0}")]
    Random(getrandom::Error),
}

impl From<getrandom::Error> for FarmError {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

impl FarmError {
    fn document(config: &FarmConfig, error: document::DocumentError) -> Self {
        Self::Document {
            prefix: config.prefix.clone(),
            error,
        }
    }
}

#[cfg(test)]
mod simulation;
