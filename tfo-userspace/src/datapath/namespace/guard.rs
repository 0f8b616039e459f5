//! The guard of a namespace, apart from its programs.

use std::io;

use aya::programs::{SchedClassifier, TcAttachType};
use tfo_common::switches::Switches;

use super::{current::Namespace, error::NamespaceError};
use crate::{
    datapath::{
        error::DatapathError,
        maps::{GuardState, GuardStore, SwitchStore},
        pins::{found_maps, map_from_pin},
    },
    kernel::{bpf::LinkState, link},
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
        self.open()?.ok_or_else(NamespaceError::nothing_attached)
    }

    fn open(&self) -> Result<Option<GuardStore>, DatapathError> {
        let pins = self.0.pins();
        let store = SwitchStore::open(pins).and_then(|switches| {
            GuardStore::of(switches, |name| map_from_pin(&pins.map(name), name))
        });
        found_maps(store)
    }

    /// The switches that are on: interfaces that are attached need the programs for the guard's.
    pub(crate) fn switches(&self) -> Result<Switches, DatapathError> {
        let store = found_maps(SwitchStore::open(self.0.pins()))?;
        store.map_or(Ok(Switches::OFF), |store| store.get())
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
            || self.switches().is_ok_and(Switches::guards_edges_alone)
    }

    /// The id of the program for ACKs on the interface of this index; `None` where it has none.
    pub fn program(&self, index: u32) -> Option<u32> {
        let link = LinkState::read(&self.0.pins().interface(index).guard()).ok()?;
        (link.index == index).then_some(link.program_id)
    }

    /// The least MTU of the interfaces by which answers to challenges arrive, in bytes; 0 where there is none.
    ///
    /// # Errors
    ///
    /// rtnetlink fails.
    pub(crate) fn least_mtu(&self) -> io::Result<u32> {
        let interfaces = self.0.pins().interfaces().unwrap_or_default();
        let mut least = None;
        for pins in interfaces.iter().filter(|pins| pins.guard().exists()) {
            let mtu = link::mtu(pins.index)?;
            least = least.into_iter().chain(mtu).min();
        }
        Ok(least.unwrap_or(0))
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
        if !self.switches()?.has(Switches::GUARD) {
            return Ok(());
        }
        self.open()?.map_or(Ok(()), |mut store| store.refresh())
    }
}
