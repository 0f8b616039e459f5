//! The keys of a network namespace, and when they changed.

use std::time::Duration;

use tfo_common::{
    cookie::{Key, KeySet},
    maps::KEYS,
};

use super::{
    DatapathError, KeyStore, Namespace, NamespaceError,
    key_change::{self, InstallError, KernelKeys},
    namespace::State,
    pins::found_maps,
    program::map_from_pin,
    value,
};
use crate::{
    kernel::{clock, sysctl},
    model::KeyPair,
};

const PRIMARY_SINCE: &str = "primary_since";

impl Namespace {
    /// The data path's keys; `None` where nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be opened.
    pub fn keys(&self) -> Result<Option<KeyStore>, DatapathError> {
        let pins = self.pins();
        let map = map_from_pin(&pins.map(KEYS), KEYS);
        found_maps(map.and_then(|map| KeyStore::new(map, Some(pins))))
    }

    /// How long ago the keys last changed, as far as we know.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the state cannot be read.
    pub fn keys_age(&self) -> Result<Option<Duration>, DatapathError> {
        if let Some(since) = self.primary_since()? {
            return Ok(Some(clock::since_boot().saturating_sub(since)));
        }
        if !self.pins().state().exists() {
            return Ok(None);
        }
        let since = Duration::from_secs(self.state()?.keys_since);
        let age = clock::since_1970().saturating_sub(since);
        // Nothing that is pinned is older than the system.
        Ok((!since.is_zero()).then_some(age.min(clock::since_boot())))
    }

    /// When the primary key changed, since the system was started; `None` where that is not known.
    fn primary_since(&self) -> Result<Option<Duration>, DatapathError> {
        let path = self.pins().primary_since();
        if !path.exists() {
            return Ok(None);
        }
        let since = value::read(&path, PRIMARY_SINCE)?;
        // 0 where it was never known.
        Ok((since != 0).then(|| Duration::from_nanos(since)))
    }

    /// A random key becomes primary, in the data path and in the kernel.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn rotate_keys(&self) -> Result<KeyPair, NamespaceError> {
        self.change_keys(key_change::rotate)
    }

    /// These keys replace all others, in the data path and in the kernel.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn set_keys(&self, pair: &KeyPair) -> Result<(), NamespaceError> {
        self.change_keys(|store, kernel| key_change::install(pair, None, store, kernel))
    }

    /// The kernel's keys become the data path's. Where the kernel has none, both get a random one.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn import_keys(&self) -> Result<KeyPair, NamespaceError> {
        self.change_keys(key_change::import)
    }

    fn change_keys<T>(
        &self,
        change: impl FnOnce(&mut KeyStore, &mut KernelKeys) -> Result<T, InstallError<DatapathError>>,
    ) -> Result<T, NamespaceError> {
        let _lock = self.lock()?;
        let mut store = self.keys()?.ok_or(NamespaceError::NothingAttached)?;
        self.noting_change(|| change(&mut store, &mut KernelKeys))
    }

    /// As [`Namespace::set_keys`], for who looks after the keys: the data path accepts `staged`, too, and
    /// where nothing is attached the kernel's keys change alone.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the old keys then stay in force.
    pub fn install_keys(&self, pair: &KeyPair, staged: Option<Key>) -> Result<(), NamespaceError> {
        let _lock = self.lock()?;
        let mut store = self.keys()?;
        let mut install = || key_change::install(pair, staged, &mut store, &mut KernelKeys);
        if sysctl::key()?.is_some_and(|old| old.primary == pair.primary) || !self.pins().exists() {
            return Ok(install()?);
        }
        self.noting_change(install)
    }

    /// The kernel's keys and those that the data path accepts, at one moment between two changes.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where either cannot be read.
    pub fn both_keys(&self) -> Result<(Option<KeyPair>, Option<KeySet>), NamespaceError> {
        let _lock = self.lock()?;
        let accepted = self.keys()?.map(|store| store.get()).transpose()?;
        Ok((sysctl::key()?, accepted))
    }

    /// The keys of the kernel, which a data path that is about to be attached accepts when this returns.
    /// Where it accepts them already, it goes on accepting the one that is staged, too.
    pub(super) fn take_kernel_keys(&self, store: &mut KeyStore) -> Result<KeyPair, NamespaceError> {
        let accepted = store.get()?;
        if let Some(pair) = sysctl::key()?
            && accepted.keys().starts_with(pair.to_set().keys())
        {
            return Ok(pair);
        }
        self.noting_change(|| key_change::import(store, &mut KernelKeys))
    }

    /// Remembers that the keys change now. It does so before they change: whoever is killed in between
    /// leaves keys that seem younger than they are, and stay in force for longer, not for less.
    fn noting_change<T>(
        &self,
        change: impl FnOnce() -> Result<T, InstallError<DatapathError>>,
    ) -> Result<T, NamespaceError> {
        let before = (self.state().unwrap_or_default(), self.primary_since()?);
        let mut now = before.0;
        now.keys_since = clock::since_1970().as_secs();
        self.note_change(now, Some(clock::since_boot()))?;
        match change() {
            Ok(changed) => Ok(changed),
            Err(error) => {
                // The error that counts is the first one.
                let _ = self.note_change(before.0, before.1);
                Err(error.into())
            }
        }
    }

    fn note_change(&self, state: State, since: Option<Duration>) -> Result<(), DatapathError> {
        let since = since.unwrap_or_default().as_nanos() as u64;
        value::write(&self.pins().primary_since(), PRIMARY_SINCE, since)?;
        self.set_state(state)
    }
}
