//! Errors of reading or changing a namespace.

use super::key_change::InstallError;
use crate::{
    datapath::error::DatapathError,
    kernel::{
        link::LinkError, mounts::ShortLived, netns::NetnsError, netstat::NetstatError,
        sysctl::SysctlError,
    },
};

/// The state of a namespace could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum NamespaceError {
    /// The namespace cannot be identified.
    #[error(transparent)]
    Netns(#[from] NetnsError),
    /// The data path.
    #[error(transparent)]
    Datapath(#[from] DatapathError),
    /// The kernel's counters.
    #[error(transparent)]
    Netstat(#[from] NetstatError),
    /// The interfaces.
    #[error(transparent)]
    Link(#[from] LinkError),
    /// A key change.
    #[error(transparent)]
    Keys(#[from] InstallError<DatapathError>),
    /// The kernel's keys.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// Nothing is attached, and why what is pinned elsewhere is not seen, where that is so.
    #[error(
        "nothing is attached here: `tfo attach IFACE` first (and --netns NAME for another network namespace){}",
        hint_of_mounts(.0.as_ref())
    )]
    NothingAttached(Option<ShortLived>),
    /// Another process reads the events.
    #[error(
        "another `tfo events` is reading here, and each event goes to one reader: end it first"
    )]
    EventsTaken,
}

impl NamespaceError {
    /// [`Self::NothingAttached`]; reads the mounts.
    pub fn nothing_attached() -> Self {
        Self::NothingAttached(ShortLived::find())
    }
}

fn hint_of_mounts(found: Option<&ShortLived>) -> String {
    found.map_or_else(String::new, |found| {
        format!("; {found}: {}", found.remedy("COMMAND"))
    })
}
