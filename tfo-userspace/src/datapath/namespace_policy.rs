//! The policy of a namespace.

use super::{
    DatapathError, Namespace, NamespaceError, PolicyStore, pins::found_maps, program::map_from_pin,
};
use crate::model::Policy;

/// A policy in short.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicySummary {
    /// How many rules it has, that of all other ports included.
    pub rules: usize,
    /// How many of them only count.
    pub dry_run: usize,
    /// How many prefixes are on its lists.
    pub prefixes: u32,
}

impl Namespace {
    /// The data path's policies; `None` where nothing is attached.
    fn policies(&self) -> Result<Option<PolicyStore>, DatapathError> {
        let pins = self.pins();
        let open = |name| map_from_pin(&pins.map(name), name);
        found_maps(PolicyStore::of(Some(pins.clone()), open))
    }

    /// The policy in force; `None` where there is none.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], or where it cannot be read.
    pub fn policy(&self) -> Result<Option<Policy>, NamespaceError> {
        let _lock = self.lock()?;
        let store = self.policies()?.ok_or(NamespaceError::NothingAttached)?;
        Ok(store.get()?)
    }

    /// Puts what `change` makes of the policy in force in its place, as a whole.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], or where the kernel refuses it; the one before then stays in force.
    pub fn change_policy<E: From<NamespaceError>>(
        &self,
        change: impl FnOnce(Option<Policy>) -> Result<Option<Policy>, E>,
    ) -> Result<Option<Policy>, E> {
        let _lock = self.lock().map_err(NamespaceError::from)?;
        let store = self.policies().map_err(NamespaceError::from)?;
        let mut store = store.ok_or(NamespaceError::NothingAttached)?;
        let before = store.get().map_err(NamespaceError::from)?;
        let policy = change(before.clone())?;
        // One that is the same keeps what its limits have counted.
        if policy != before {
            store.set(policy.as_ref()).map_err(NamespaceError::from)?;
        }
        Ok(policy)
    }

    /// The policy in force in short; `None` where there is none, or nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where it cannot be read.
    pub fn policy_summary(&self) -> Result<Option<PolicySummary>, DatapathError> {
        match self.policies()? {
            Some(store) => store.summary(),
            None => Ok(None),
        }
    }
}
