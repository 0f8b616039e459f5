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
    /// Nothing is attached.
    #[error(
        "nothing is attached here: `tfo attach IFACE` first (and --netns NAME for another network namespace){}",
        hint_of_mounts()
    )]
    NothingAttached,
    /// Another process reads the events.
    #[error(
        "another `tfo events` is reading here, and each event goes to one reader: end it first"
    )]
    EventsTaken,
}

/// Where what is pinned elsewhere is not seen.
fn hint_of_mounts() -> String {
    let found = ShortLived::find();
    found.map_or_else(String::new, |found| {
        format!("; {found}: {}", found.remedy("COMMAND"))
    })
}
