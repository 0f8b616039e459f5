//! Results of attaching.

use super::{error::ProgramOrigin, hook::HookReason};
use crate::{
    datapath::namespace::AttachedInterface,
    model::{AttachMode, Decap, KeyPair, Mirror},
};

/// A program was attached where none was.
#[derive(Debug)]
pub struct Attached {
    /// The mode in which it runs.
    pub mode: AttachMode,
    /// Why this mode.
    pub reason: HookReason,
    /// Why it is a clsact filter and not a TCX link, where it is one.
    pub not_tcx: Option<String>,
    /// The mirror in effect.
    pub mirror: Mirror,
    /// The tunnels that are read through.
    pub decap: Decap,
    /// Why the mirror is not exact, where it was to be.
    pub not_exact: Option<String>,
    /// The entry program's id.
    pub program_id: u32,
    /// The keys in force.
    pub keys: KeyPair,
    /// The id of a program that was taken off first: it came with the interface from another network namespace.
    pub removed: Option<u32>,
}

/// A data path that was moved to another hook.
#[derive(Clone, Debug)]
pub struct HookChange {
    /// The interface's name.
    pub interface: String,
    /// The mode before.
    pub from: AttachMode,
    /// The mode now.
    pub to: AttachMode,
    /// Why.
    pub reason: HookReason,
    /// The entry program's id.
    pub program_id: u32,
}

/// A program was replaced in place.
#[derive(Debug)]
pub struct Upgraded {
    /// The mode in which it runs.
    pub mode: AttachMode,
    /// The mirror in effect.
    pub mirror: Mirror,
    /// The tunnels that are read through.
    pub decap: Decap,
    /// Why the mirror is not exact, where it was to be.
    pub not_exact: Option<String>,
    /// The entry program's id.
    pub program_id: u32,
    /// The previous program's origin.
    pub before: ProgramOrigin,
    /// The capacity for sources, where another was asked for: an upgrade keeps the map.
    pub kept_sources: Option<u32>,
}

/// A program was left as it is.
#[derive(Debug)]
pub struct Kept {
    /// The program.
    pub program: AttachedInterface,
    /// As [`Upgraded::kept_sources`].
    pub kept_sources: Option<u32>,
}

/// The result of [`ensure`](super::ensure()).
#[derive(Debug)]
pub enum Ensured {
    /// Nothing was attached before.
    Attached(Attached),
    /// A program of another build, or with other settings, was replaced.
    Upgraded(Upgraded),
    /// This build's program was attached with these settings before, in another mode.
    Moved(HookChange),
    /// This build's program was attached with these settings before.
    Kept(Kept),
}
