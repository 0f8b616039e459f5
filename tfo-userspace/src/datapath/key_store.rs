//! The keys that the data path accepts.

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use tfo_common::{cookie::KeySet, maps::KEYS};

use super::DatapathError;
use crate::keys::DataPath;

type Inner = Array<MapData, KeySet>;

/// The map `KEYS`.
pub struct KeyStore(ArrayOfMaps<MapData, Inner>);

impl KeyStore {
    pub(super) fn new(map: Map) -> Result<Self, DatapathError> {
        Ok(Self(map.try_into().map_err(DatapathError::map(KEYS))?))
    }

    /// The set in force; the empty set where none was put there yet.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Map`] where it cannot be read.
    pub fn get(&self) -> Result<KeySet, DatapathError> {
        match self.0.get(&0, 0) {
            Ok(inner) => inner.get(&0, 0).map_err(DatapathError::map(KEYS)),
            Err(aya::maps::MapError::KeyNotFound) => Ok(KeySet::EMPTY),
            Err(error) => Err(DatapathError::map(KEYS)(error)),
        }
    }

    /// Puts a set in force, as a whole. When this returns, no packet is held against the set before
    /// any more: the kernel waits for the programs that run (`maybe_wait_bpf_programs`).
    ///
    /// # Errors
    ///
    /// [`DatapathError::Map`] where the kernel refuses it.
    pub fn set(&mut self, keys: &KeySet) -> Result<(), DatapathError> {
        let mut inner = Inner::create(1, 0).map_err(DatapathError::map(KEYS))?;
        inner.set(0, keys, 0).map_err(DatapathError::map(KEYS))?;
        self.0.set(0, &inner, 0).map_err(DatapathError::map(KEYS))
    }
}

impl DataPath for KeyStore {
    type Error = DatapathError;

    fn accept(&mut self, keys: &KeySet) -> Result<(), DatapathError> {
        self.set(keys)
    }
}
