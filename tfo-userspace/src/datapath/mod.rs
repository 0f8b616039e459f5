//! The data path in the kernel: the program, its maps, and where they are pinned.
//!
//! What is pinned outlives the controller:
//!
//! ```text
//! /sys/fs/bpf/tfo/v1/          v1: the layout version of everything below
//!   net<COOKIE>/               a network namespace
//!     keys                     the key set in force, shared by all its interfaces
//!     accepted                 that set itself, to be read
//!     primary_since            when the primary key changed
//!     state                    the kernel's counters when ours began, and the age of the keys
//!     unfinished<INDEX>/       an interface that is being attached or detached
//!     if<INDEX>/               an interface
//!       info build             how it was attached, and by which build
//!       link program           or filter, before Linux 6.6
//!       counters port_slots slots_taken sizes sources events event_gate event_budget
//! ```

mod attach;
mod attach_error;
mod batch;
mod build;
mod control;
mod counters;
mod describe;
mod detach;
mod drift;
mod events;
mod filter;
mod follow;
mod guard;
mod info;
mod key_store;
mod listeners;
mod lock;
mod memory;
mod modes;
mod namespace;
mod namespace_keys;
mod namespace_policy;
mod pins;
mod policy_store;
mod program;
mod settings;
mod sources;
mod summary;
mod sweep;
mod value;

pub use attach::{Attached, Ensured, ModeChoice, Upgraded, attach, ensure};
pub use attach_error::{AttachError, Whose};
pub use build::Build;
pub use control::{Control, ControlError};
pub use counters::Snapshot;
pub use detach::{detach, detach_gone};
pub use drift::Drift;
pub use events::{DEFAULT_RATE, EventFilter, EventStream, Lost, slug};
pub use follow::{Change, Follower, Wanted};
pub use guard::{GuardError, GuardState, GuardStore, PortState, Unguarded};
pub use key_store::KeyStore;
pub use listeners::{FastOpenState, ListenersError, ListeningSocket, listeners};
pub use memory::Memory;
pub use namespace::{AttachedInterface, Namespace, NamespaceError};
pub use namespace_policy::PolicySummary;
pub use policy_store::PolicyStore;
pub use program::{Datapath, OBJECT};
pub use settings::{Mirror, Settings, SourceLimits};
pub use sources::{Prefix, Sources};
pub use summary::{FastOpenSummary, Share, growth};

use std::path::{Path, PathBuf};

/// Why the data path could not be loaded, read or written.
#[derive(Debug, thiserror::Error)]
pub enum DatapathError {
    /// The kernel refused the object.
    #[error("the kernel refused the data path (-v shows why)")]
    Load(#[source] Box<aya::EbpfError>),
    /// The kernel does not open connections on the guard's word.
    #[error("this kernel takes no proof from the guard: {0}")]
    NoProof(String),
    /// The kernel's verifier refused the program, or it could not be attached.
    #[error("the kernel refused the program (-v shows why)")]
    Program(#[source] Box<aya::programs::ProgramError>),
    /// A map could not be read or written.
    #[error("map {name}: {source}")]
    Map {
        /// The map.
        name: &'static str,
        /// The kernel's word.
        source: Box<aya::maps::MapError>,
    },
    /// The object has no such map or program.
    #[error(
        "{0} is missing from the data path: the object and the controller are of different builds"
    )]
    Missing(&'static str),
    /// Something could not be pinned.
    #[error("cannot pin {path}: {source}", path = path.display())]
    Pin {
        /// Where to.
        path: PathBuf,
        /// The kernel's word.
        source: Box<aya::pin::PinError>,
    },
    /// A directory of pins could not be made, read or removed.
    #[error("{path}: {source}", path = path.display())]
    Io {
        /// The directory.
        path: PathBuf,
        /// The kernel's word.
        source: std::io::Error,
    },
}

impl DatapathError {
    /// A [`DatapathError::Map`] for the map of that name.
    fn map(name: &'static str) -> impl Fn(aya::maps::MapError) -> Self {
        move |source| Self::Map {
            name,
            source: Box::new(source),
        }
    }

    /// A map is not pinned where it was looked for.
    fn is_absence(&self) -> bool {
        let Self::Map { source, .. } = self else {
            return false;
        };
        matches!(&**source, aya::maps::MapError::SyscallError(call) if call.io_error.kind() == std::io::ErrorKind::NotFound)
    }

    /// A [`DatapathError::Pin`] at `path`.
    fn pin(path: &Path) -> impl FnOnce(aya::pin::PinError) -> Self {
        move |source| Self::Pin {
            path: path.to_owned(),
            source: Box::new(source),
        }
    }

    /// A [`DatapathError::Io`] at `path`.
    fn io(path: &Path) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Io {
            path: path.to_owned(),
            source,
        }
    }
}

impl From<aya::programs::ProgramError> for DatapathError {
    fn from(error: aya::programs::ProgramError) -> Self {
        Self::Program(Box::new(error))
    }
}
