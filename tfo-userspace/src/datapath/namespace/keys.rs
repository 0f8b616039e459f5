//! The keys of a namespace, and when they changed.

use std::time::Duration;

use tfo_common::{
    abi::KEYS,
    fastopen::{Key, KeySet},
};

use super::{
    current::Namespace,
    error::NamespaceError,
    key_change::{self, AcceptKeys, InstallError, KernelKeys},
    state::State,
};
use crate::{
    datapath::{
        error::DatapathError,
        maps::KeyStore,
        pins::{found_maps, map_from_pin, read_value, write_value},
    },
    kernel::{clock, sysctl},
    model::{KeyPair, random_key},
};

const PRIMARY_SINCE: &str = "primary_since";

impl AcceptKeys for KeyStore {
    type Error = DatapathError;

    fn accept(&mut self, keys: &KeySet) -> Result<(), DatapathError> {
        self.set(keys)
    }
}

/// The keys of a namespace; from [`Namespace::keys`].
pub struct NamespaceKeys<'a>(&'a Namespace);

impl Namespace {
    /// Access to the keys.
    pub const fn keys(&self) -> NamespaceKeys<'_> {
        NamespaceKeys(self)
    }
}

impl NamespaceKeys<'_> {
    /// The keys that the data path accepts; `None` where nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn accepted(&self) -> Result<Option<KeySet>, DatapathError> {
        self.store()?.map(|store| store.get()).transpose()
    }

    fn store(&self) -> Result<Option<KeyStore>, DatapathError> {
        let pins = self.0.pins();
        let map = map_from_pin(&pins.map(KEYS), KEYS);
        found_maps(map.and_then(|map| KeyStore::new(map, Some(pins))))
    }

    /// Time since the keys last changed; `None` where unknown.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the state cannot be read.
    pub fn age(&self) -> Result<Option<Duration>, DatapathError> {
        if let Some(since) = self.primary_since()? {
            return Ok(Some(clock::since_boot().saturating_sub(since)));
        }
        if !self.0.pins().state().exists() {
            return Ok(None);
        }
        let since = Duration::from_secs(State::read(self.0)?.keys_since);
        let age = clock::since_1970().saturating_sub(since);
        // No pin is older than the system.
        Ok((!since.is_zero()).then_some(age.min(clock::since_boot())))
    }

    /// Returns the time at which the primary key changed, by `CLOCK_BOOTTIME`; `None` where
    /// unknown.
    fn primary_since(&self) -> Result<Option<Duration>, DatapathError> {
        let path = self.0.pins().primary_since();
        if !path.exists() {
            return Ok(None);
        }
        let since = read_value(&path, PRIMARY_SINCE)?;
        // 0 where it was never known.
        Ok((since != 0).then(|| Duration::from_nanos(since)))
    }

    /// Makes a random key primary, in data path and kernel. Gives the new pair.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the previous keys then stay in force.
    pub fn rotate(&self) -> Result<KeyPair, NamespaceError> {
        self.change(key_change::rotate)
    }

    /// Gives the kernel a random backup key where it has a primary key only. Gives whether it did.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the previous keys then stay in force.
    pub fn add_backup(&self) -> Result<bool, NamespaceError> {
        let _lock = self.0.lock()?;
        let (Some(mut store), Some(mut pair)) = (self.store()?, sysctl::key()?) else {
            return Ok(false);
        };
        if pair.backup.is_some() {
            return Ok(false);
        }
        pair.backup = Some(random_key().map_err(InstallError::Random)?);
        key_change::install(&pair, None, &mut store, &mut KernelKeys)?;
        Ok(true)
    }

    /// Replaces all keys by `pair`, in data path and kernel.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the previous keys then stay in force.
    pub fn set(&self, pair: &KeyPair) -> Result<(), NamespaceError> {
        self.change(|store, kernel| key_change::install(pair, None, store, kernel))
    }

    /// Has the data path accept the kernel's keys. Where the kernel has none, both get a random one. Gives the
    /// pair.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the previous keys then stay in force.
    pub fn import(&self) -> Result<KeyPair, NamespaceError> {
        self.change(key_change::import)
    }

    fn change<T>(
        &self,
        change: impl FnOnce(&mut KeyStore, &mut KernelKeys) -> Result<T, InstallError<DatapathError>>,
    ) -> Result<T, NamespaceError> {
        let _lock = self.0.lock()?;
        let mut store = self.store()?.ok_or_else(NamespaceError::nothing_attached)?;
        self.recording_change(|| change(&mut store, &mut KernelKeys))
    }

    /// As [`Self::set`], for a controller: the data path accepts `staged`, the next primary key, too. Where nothing
    /// is attached, the kernel's keys change alone.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::Keys`]; the previous keys then stay in force.
    pub fn install(&self, pair: &KeyPair, staged: Option<Key>) -> Result<(), NamespaceError> {
        let _lock = self.0.lock()?;
        let mut store = self.store()?;
        let mut install = || key_change::install(pair, staged, &mut store, &mut KernelKeys);
        let same_primary = sysctl::key()?.is_some_and(|old| old.primary == pair.primary);
        if same_primary || !self.0.pins().exists() {
            return Ok(install()?);
        }
        self.recording_change(install)
    }

    /// The kernel's pair and the set that the data path accepts, read between two changes.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where either cannot be read.
    pub fn both(&self) -> Result<(Option<KeyPair>, Option<KeySet>), NamespaceError> {
        let _lock = self.0.lock()?;
        let accepted = self.accepted()?;
        Ok((sysctl::key()?, accepted))
    }

    /// Has the `store` of a data path that is about to be attached accept the kernel's keys, as
    /// [`Self::import`]. One that does already keeps its staged key.
    pub(crate) fn import_into(&self, store: &mut KeyStore) -> Result<KeyPair, NamespaceError> {
        let accepted = store.get()?;
        if let Some(pair) = sysctl::key()?
            && accepted.keys().starts_with(pair.to_set().keys())
        {
            return Ok(pair);
        }
        self.recording_change(|| key_change::import(store, &mut KernelKeys))
    }

    /// Pins the time of a change before making it: a process killed in between leaves keys that seem younger than
    /// they are, and so stay in force for longer, not shorter.
    fn recording_change<T>(
        &self,
        change: impl FnOnce() -> Result<T, InstallError<DatapathError>>,
    ) -> Result<T, NamespaceError> {
        let state = State::read(self.0).unwrap_or_default();
        let since = self.primary_since()?;
        let mut now = state;
        now.keys_since = clock::since_1970().as_secs();
        self.record(now, Some(clock::since_boot()))?;
        match change() {
            Ok(changed) => Ok(changed),
            Err(error) => {
                // The first error is the one to report.
                let _ = self.record(state, since);
                Err(error.into())
            }
        }
    }

    fn record(&self, state: State, since: Option<Duration>) -> Result<(), DatapathError> {
        let since = since.unwrap_or_default().as_nanos() as u64;
        write_value(&self.0.pins().primary_since(), PRIMARY_SINCE, since)?;
        state.write(self.0)
    }
}
