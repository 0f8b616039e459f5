//! The key set that the data path accepts.

use std::{fs, path::PathBuf};

use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError};
use tfo_common::{abi::KEYS, fastopen::KeySet};

use super::inner_map;
use crate::datapath::{error::DatapathError, pins::NamespacePins};

type Inner = Array<MapData, KeySet>;

/// The map of maps `KEYS`.
pub(crate) struct KeyStore {
    outer: ArrayOfMaps<MapData, Inner>,
    /// Pin of the inner map in force: reading it through the outer one takes `CAP_SYS_ADMIN`. `None` where
    /// nothing is pinned.
    inner: Option<PathBuf>,
}

impl KeyStore {
    /// Takes the outer map; `pinned` where it is pinned.
    pub(crate) fn new(map: Map, pinned: Option<&NamespacePins>) -> Result<Self, DatapathError> {
        Ok(Self {
            outer: map.try_into().map_err(DatapathError::map(KEYS))?,
            inner: pinned.map(NamespacePins::accepted),
        })
    }

    /// The set in force; empty where none was set yet.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Map`] where the map cannot be read.
    pub(crate) fn get(&self) -> Result<KeySet, DatapathError> {
        let inner = match (self.outer.get(&0, 0), &self.inner) {
            (Ok(inner), _) => inner,
            (Err(MapError::KeyNotFound), _) => return Ok(KeySet::EMPTY),
            // Not permitted.
            (Err(_), Some(path)) if path.exists() => inner_map::open(path, KEYS)?,
            (Err(error), _) => return Err(DatapathError::map(KEYS)(error)),
        };
        inner.get(&0, 0).map_err(DatapathError::map(KEYS))
    }

    /// Puts a set in force as a whole. When this returns, no packet is checked against the previous set any
    /// more: the kernel waits for running programs (`maybe_wait_bpf_programs`).
    ///
    /// # Errors
    ///
    /// [`DatapathError::Map`] where the kernel refuses it.
    pub(crate) fn set(&mut self, keys: &KeySet) -> Result<(), DatapathError> {
        let mut inner = Inner::create(1, 0).map_err(DatapathError::map(KEYS))?;
        inner.set(0, keys, 0).map_err(DatapathError::map(KEYS))?;
        let Some(path) = &self.inner else {
            return self
                .outer
                .set(0, &inner, 0)
                .map_err(DatapathError::map(KEYS));
        };
        // The new inner map replaces the pinned one only once it is in force. A process killed in between
        // leaves the previous set to be read until the next change. A BPF file system takes no dots in names.
        let next = path.with_file_name("accepted_next");
        let pinned = inner_map::pin(inner, &next, KEYS)?;
        self.outer
            .set(0, &pinned, 0)
            .map_err(DatapathError::map(KEYS))?;
        fs::rename(&next, path).map_err(DatapathError::io(&next))
    }
}
