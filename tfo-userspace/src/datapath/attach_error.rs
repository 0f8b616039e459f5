//! Why an interface was not attached or detached.

use std::fmt;

use super::{Build, DatapathError, NamespaceError};
use crate::{kernel::support::SupportError, model::AttachMode};

/// Why an interface was not attached or detached.
#[derive(Debug, thiserror::Error)]
pub enum AttachError {
    /// The kernel or the process lacks something.
    #[error(transparent)]
    Support(#[from] SupportError),
    /// Reading or changing the namespace's state.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// It is attached already.
    #[error(
        "{interface}: tfo is attached already (program {program_id}, {mode}, {whose}): `tfo status` shows it, `tfo attach --replace {interface}` upgrades it in place, `tfo detach {interface}` removes it"
    )]
    Twice {
        /// The interface.
        interface: String,
        /// Our program there.
        program_id: u32,
        /// How it runs.
        mode: AttachMode,
        /// Which build's it is.
        whose: Whose,
    },
    /// Someone else's program is there.
    #[error(
        "{interface}: another XDP program is attached: {name} (id {program_id}, {mode}): detach it with the tool that attached it, or `ip link set dev {interface} xdp off`, then attach again; or --mode tc runs beside it"
    )]
    Occupied {
        /// The interface.
        interface: String,
        /// The program's name.
        name: String,
        /// The program's id.
        program_id: u32,
        /// How it runs.
        mode: AttachMode,
    },
    /// Its frames start with something that is not read.
    #[error(
        "{interface}: its frames start with neither Ethernet nor IP (link layer {layer}), and tfo reads no others: attach to an interface that this one's packets go through"
    )]
    LinkLayer {
        /// The interface.
        interface: String,
        /// What the kernel calls its link layer.
        layer: String,
    },
    /// No mode worked.
    #[error("{interface}: the kernel refused to attach in {mode} mode: {reason}{remedy}")]
    Refused {
        /// The interface.
        interface: String,
        /// The mode.
        mode: AttachMode,
        /// The kernel's word.
        reason: String,
        /// What to try.
        remedy: &'static str,
    },
    /// Nothing to detach.
    #[error("{interface}: tfo is not attached here: `tfo status` shows where it is")]
    NotAttached {
        /// The interface.
        interface: String,
    },
}

impl From<DatapathError> for AttachError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// Which build attached a program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Whose {
    /// The running one.
    Own,
    /// Another, if it said which.
    Other(Option<Build>),
    /// One of another layout version.
    OtherLayout(String),
}

impl fmt::Display for Whose {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Own => f.write_str("of this build"),
            Self::Other(Some(build)) => write!(f, "of another build, {build}"),
            Self::Other(None) => f.write_str("of an older build"),
            Self::OtherLayout(version) => write!(f, "of a build with layout {version}"),
        }
    }
}
