//! Errors that keep a host from taking part in its farm.

use std::path::PathBuf;

use super::{admission::Refusal, document::DocumentError, state_file::StoreError};
use crate::keys::KeyFileError;

/// An error that keeps a host from taking part in its farm. The keys in force stay as they are.
#[derive(Debug, thiserror::Error)]
pub enum FarmError {
    /// etcd cannot be reached, or refuses a request.
    #[error("etcd at {endpoints}: {error}: {remedy}")]
    Etcd {
        /// The configured endpoints.
        endpoints: String,
        /// etcd's message, or the connection's error.
        error: String,
        /// The remedy.
        remedy: String,
    },
    /// A file of the section `[farm]` cannot be used.
    #[error(transparent)]
    File(#[from] KeyFileError),
    /// etcd has no document under the prefix.
    #[error(
        "etcd has no document {0}document: check the prefix, or create the farm: `tfo farm init`"
    )]
    NoDocument(String),
    /// The document in etcd is not usable.
    #[error("etcd's document {prefix}document: {error}")]
    Document {
        /// The farm's prefix.
        prefix: String,
        /// The cause.
        error: DocumentError,
    },
    /// The document in etcd belongs to another farm than the one that this host has stored.
    #[error("etcd's document {prefix}document belongs to another farm than this host: check the prefix; to have the host join that farm, stop the service and remove {state}", state = state.display())]
    OtherFarm {
        /// The farm's prefix.
        prefix: String,
        /// The host's state file.
        state: PathBuf,
    },
    /// The document in etcd does not follow the one that this host has stored.
    #[error(
        "etcd's document {prefix}document: {error}: someone put an earlier document back, or etcd was restored from a backup: run `tfo farm init --replace` on the host with the latest document"
    )]
    OutOfSequence {
        /// The farm's prefix.
        prefix: String,
        /// The cause.
        error: Refusal,
    },
    /// The document in etcd is of an epoch that the operator excluded.
    #[error(
        "etcd's document {prefix}document: {error}: if that is right, someone put an earlier document back: run `tfo farm init --replace` on the host with the latest document"
    )]
    LeastEpoch {
        /// The farm's prefix.
        prefix: String,
        /// The cause.
        error: Refusal,
    },
    /// This host has stored no document, and waits for the leader.
    #[error(
        "this host has stored no document of {prefix} and waits until the leader admits it: `tfo farm status` shows the leader; if no host has stored one any more, set the farm's present epoch as [farm] least-epoch on one host"
    )]
    NotAdmitted {
        /// The farm's prefix.
        prefix: String,
    },
    /// More lies under a key than a farm writes.
    #[error(
        "etcd holds more under {key} than any farm writes: find out who wrote it, then `etcdctl del {}{key}`; hosts write their records again", if *prefix { "--prefix " } else { "" }
    )]
    Flooded {
        /// The key, or the prefix of the keys.
        key: String,
        /// It is a prefix.
        prefix: bool,
    },
    /// The document cannot be stored on this host.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another live host has this host's name.
    #[error(
        "another host of the farm is named {0}, too: give each a name of its own, as in [farm] host = \"web-1\""
    )]
    NameTaken(String),
    /// The lease expired because etcd received no keep-alive in time.
    #[error("etcd's lease for this host expired: the host reconnects")]
    LeaseExpired,
    /// getrandom(2) failed.
    #[error("cannot make a random key: getrandom(2): {0}")]
    Random(getrandom::Error),
}

impl From<getrandom::Error> for FarmError {
    fn from(error: getrandom::Error) -> Self {
        Self::Random(error)
    }
}

impl FarmError {
    /// The error for an authentic document that this host does not take.
    pub(super) fn refusal(prefix: &str, state: PathBuf, error: Refusal) -> Self {
        let prefix = prefix.to_owned();
        match error {
            Refusal::OtherFarm => Self::OtherFarm { prefix, state },
            Refusal::NotAdmitted => Self::NotAdmitted { prefix },
            Refusal::Least { .. } => Self::LeastEpoch { prefix, error },
            Refusal::Sequence(_) | Refusal::Serial { .. } | Refusal::Member(_) => {
                Self::OutOfSequence { prefix, error }
            }
        }
    }

    /// A [`FarmError::Document`] for the document under `prefix`.
    pub(super) fn document(prefix: &str, error: DocumentError) -> Self {
        Self::Document {
            prefix: prefix.to_owned(),
            error,
        }
    }
}
