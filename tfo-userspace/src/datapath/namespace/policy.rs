//! The policy of a namespace.

use std::collections::BTreeMap;

use tfo_common::policy::withhold::SourceState;

use super::{current::Namespace, error::NamespaceError};
use crate::{
    datapath::{
        error::DatapathError,
        maps::{PolicyStore, PolicySummary, SwitchStore},
        object::{attach_handshakes, detach_handshakes},
        pins::{Lock, NamespacePins, found_maps, map_from_pin},
    },
    kernel::clock,
    model::{Policy, Prefix},
};

/// The policy of a namespace; from [`Namespace::policy`].
pub struct NamespacePolicy<'a>(&'a Namespace);

impl Namespace {
    /// Access to the policy.
    pub const fn policy(&self) -> NamespacePolicy<'_> {
        NamespacePolicy(self)
    }
}

impl NamespacePolicy<'_> {
    fn store(&self) -> Result<Option<PolicyStore>, DatapathError> {
        let pins = self.0.pins();
        let open = |name| map_from_pin(&pins.map(name), name);
        let store = SwitchStore::open(pins)
            .and_then(|switches| PolicyStore::of(switches, Some(pins.clone()), open));
        found_maps(store)
    }

    /// The policy in force; `None` where there is none, or nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn get(&self) -> Result<Option<Policy>, DatapathError> {
        let _lock = self.0.lock()?;
        match self.store()? {
            Some(store) => store.get(),
            None => Ok(None),
        }
    }

    /// The policy in force without its lists; `None` where there is none, or nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn summary(&self) -> Result<Option<PolicySummary>, DatapathError> {
        match self.store()? {
            Some(store) => store.summary(),
            None => Ok(None),
        }
    }

    /// Returns the memory of sources that may waste cookies, by prefix; empty where no rule
    /// withholds cookies.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn remembered(&self) -> Result<BTreeMap<Prefix, SourceState>, DatapathError> {
        let remembered = self.store()?.map(|store| store.remembered());
        Ok(remembered.transpose()?.unwrap_or_default())
    }

    /// The number of sources from which cookies are withheld now.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn withheld(&self) -> Result<usize, DatapathError> {
        let now = clock::monotonic().as_nanos() as u64;
        let remembered = self.remembered()?;
        Ok(remembered.values().filter(|it| it.is_withheld(now)).count())
    }

    /// Forgets what is remembered of these sources.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be changed.
    pub fn forget(&self, sources: &[Prefix]) -> Result<(), DatapathError> {
        let _lock = self.0.lock()?;
        let Some(store) = self.store()? else {
            return Ok(());
        };
        sources.iter().try_for_each(|source| store.forget(*source))
    }

    /// Begins a change: other processes wait until the change is applied or dropped.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], or where a map cannot be read.
    pub fn change(&self) -> Result<PolicyChange, NamespaceError> {
        let lock = self.0.lock()?;
        let store = self.store()?.ok_or_else(NamespaceError::nothing_attached)?;
        Ok(PolicyChange {
            before: store.get()?,
            store,
            pins: self.0.pins().clone(),
            _lock: lock,
        })
    }
}

/// A change of the policy, which holds the namespace's lock.
pub struct PolicyChange {
    /// The policy in force; `None` where there is none.
    pub before: Option<Policy>,
    store: PolicyStore,
    pins: NamespacePins,
    _lock: Option<Lock>,
}

impl PolicyChange {
    /// Puts `policy`, or none, in force as a whole. Gives whether it differs from the one before; an equal one
    /// keeps the state of its limits.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it; the policy before then stays in force.
    pub fn apply(mut self, policy: Option<&Policy>) -> Result<bool, DatapathError> {
        let differs = policy != self.before.as_ref();
        let withholds = policy.is_some_and(Policy::withholds);
        // An upgrade replaces the program: here it is wanted only where there is none.
        if withholds && !self.pins.handshakes().exists() {
            attach_handshakes(&self.pins)?;
        }
        if differs {
            self.store.set(policy)?;
        }
        if !withholds {
            detach_handshakes(&self.pins)?;
        }
        Ok(differs)
    }
}
