//! The two places that hold a namespace's keys: the kernel, which issues cookies, and the data path.

use std::fmt::Display;

use tfo_common::fastopen::KeySet;

use super::schedule::KeyPlan;
use crate::{
    datapath::{Namespace, NamespaceError},
    kernel::sysctl,
    model::KeyPair,
};

/// The kernel and the data path of one namespace.
pub trait KeyEndpoints {
    /// Why keys could not be read or changed, in one line.
    type Error: Display;

    /// The kernel's pair; `None` where it has no key yet.
    ///
    /// # Errors
    ///
    /// The read failed.
    fn kernel(&self) -> Result<Option<KeyPair>, Self::Error>;

    /// The kernel's pair and the keys that the data path accepts, read while no `tfo` process changes them.
    ///
    /// # Errors
    ///
    /// A read failed.
    fn both(&self) -> Result<(Option<KeyPair>, Option<KeySet>), Self::Error>;

    /// Puts `plan` in force in both. The data path accepts a key before the kernel issues it.
    ///
    /// # Errors
    ///
    /// One of them refused it; the previous keys stay in force in both.
    fn install(&mut self, plan: &KeyPlan) -> Result<(), Self::Error>;
}

impl KeyEndpoints for Namespace {
    type Error = NamespaceError;

    fn kernel(&self) -> Result<Option<KeyPair>, NamespaceError> {
        Ok(sysctl::key()?)
    }

    fn both(&self) -> Result<(Option<KeyPair>, Option<KeySet>), NamespaceError> {
        self.keys().both()
    }

    fn install(&mut self, plan: &KeyPlan) -> Result<(), NamespaceError> {
        self.keys().install(&plan.pair, plan.staged)
    }
}
