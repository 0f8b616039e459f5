//! The guard of a namespace, apart from its programs.

use aya::programs::{SchedClassifier, TcAttachType};
use tfo_common::{abi::GUARD, guard::GuardHead};

use super::{current::Namespace, error::NamespaceError};
use crate::{
    datapath::{
        error::DatapathError,
        maps::{GuardState, GuardStore},
        pins::{found_maps, map_from_pin},
    },
    kernel::bpf::LinkState,
};

/// The guard of a namespace; from [`Namespace::guard`].
///
/// [`GuardChange`](crate::datapath::GuardChange) changes it: that attaches or detaches programs.
pub struct NamespaceGuard<'a>(&'a Namespace);

impl Namespace {
    /// Access to the guard.
    pub const fn guard(&self) -> NamespaceGuard<'_> {
        NamespaceGuard(self)
    }
}

impl NamespaceGuard<'_> {
    /// The guard's maps; [`NamespaceError::NothingAttached`] where nothing is attached.
    pub(crate) fn store(&self) -> Result<GuardStore, NamespaceError> {
        self.open()?.ok_or(NamespaceError::NothingAttached)
    }

    fn open(&self) -> Result<Option<GuardStore>, DatapathError> {
        let pins = self.0.pins();
        found_maps(GuardStore::of(|name| map_from_pin(&pins.map(name), name)))
    }

    /// Which rules there are, as [`GuardHead::armed`](tfo_common::guard::GuardHead::armed) has it: interfaces that are
    /// attached need the programs for them.
    pub(crate) fn armed(&self) -> Result<u32, DatapathError> {
        let pin = self.0.pins().map(GUARD);
        let head = found_maps(map_from_pin(&pin, GUARD))?;
        head.map_or(Ok(0), GuardStore::armed_in)
    }

    /// The guard in force and its state; `None` where there is none, or nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn state(&self) -> Result<Option<GuardState>, DatapathError> {
        match self.open()? {
            Some(store) => store.state(),
            None => Ok(None),
        }
    }

    /// The interface of this index has the guard's programs. Where all rules are of services behind this host, every attached
    /// one has.
    pub fn is_on(&self, index: u32) -> bool {
        self.0.pins().interface(index).guard().exists()
            || matches!(self.armed(), Ok(GuardHead::EDGE))
    }

    /// The id of the program for ACKs on the interface of this index; `None` where it has none.
    pub fn program(&self, index: u32) -> Option<u32> {
        let link = LinkState::read(&self.0.pins().interface(index).guard()).ok()?;
        (link.index == index).then_some(link.program_id)
    }

    /// The TCX programs of others that run before the one for ACKs on an interface, and may end the chain: name and id.
    pub fn before(&self, index: u32, interface: &str) -> Vec<(String, u32)> {
        let Some(own) = self.program(index) else {
            return Vec::new();
        };
        let programs = SchedClassifier::query_tcx(interface, TcAttachType::Ingress);
        let (_, programs) = programs.unwrap_or_default();
        let entry = LinkState::read(&self.0.pins().interface(index).link());
        let entry = entry.map_or(0, |link| link.program_id);
        let others = programs.iter().take_while(|program| program.id() != own);
        let others = others.filter(|program| program.id() != entry);
        let named = others.map(|program| {
            let name = program.name_as_str().unwrap_or_default();
            (name.to_owned(), program.id())
        });
        named.collect()
    }

    /// Does what is due in every time slot, and when the wall clock was set: a new secret or the right slot, and the host's
    /// window scale. Does nothing where there is no guard.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn refresh(&self) -> Result<(), DatapathError> {
        if self.armed()? == 0 {
            return Ok(());
        }
        self.open()?.map_or(Ok(()), |mut store| store.refresh())
    }
}
