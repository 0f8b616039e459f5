//! The keys that the data path accepts.

use std::{
    fs,
    path::{Path, PathBuf},
};

use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError};
use tfo_common::{cookie::KeySet, maps::KEYS};

use super::{
    DatapathError,
    key_change::AcceptKeys,
    pins::{self, NamespacePins},
    program::map_from_pin,
};

type Inner = Array<MapData, KeySet>;

/// The map `KEYS`.
pub struct KeyStore {
    outer: ArrayOfMaps<MapData, Inner>,
    /// Where the inner map in force is pinned, too, if anything is: asking the outer one for it takes
    /// `CAP_SYS_ADMIN`.
    inner: Option<PathBuf>,
}

impl KeyStore {
    /// Of the map that is pinned in `pinned`, if it is.
    pub(super) fn new(map: Map, pinned: Option<&NamespacePins>) -> Result<Self, DatapathError> {
        Ok(Self {
            outer: map.try_into().map_err(DatapathError::map(KEYS))?,
            inner: pinned.map(NamespacePins::accepted),
        })
    }

    /// The set in force; the empty set where none was put there yet.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Map`] where it cannot be read.
    pub fn get(&self) -> Result<KeySet, DatapathError> {
        let inner = match (self.outer.get(&0, 0), &self.inner) {
            (Ok(inner), _) => inner,
            (Err(MapError::KeyNotFound), _) => return Ok(KeySet::EMPTY),
            // Not permitted.
            (Err(_), Some(path)) if path.exists() => open(path)?,
            (Err(error), _) => return Err(DatapathError::map(KEYS)(error)),
        };
        inner.get(&0, 0).map_err(DatapathError::map(KEYS))
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
        let Some(path) = &self.inner else {
            return self
                .outer
                .set(0, &inner, 0)
                .map_err(DatapathError::map(KEYS));
        };
        // Pinned beside the one before, which it replaces only once it is in force. Whoever is killed
        // in between leaves the set before to be read, and the next change puts that right.
        // The file system of BPF takes no dots.
        let next = path.with_file_name("accepted_next");
        pins::remove_file(&next)?;
        inner.pin(&next).map_err(DatapathError::pin(&next))?;
        self.outer
            .set(0, &open(&next)?, 0)
            .map_err(DatapathError::map(KEYS))?;
        fs::rename(&next, path).map_err(DatapathError::io(&next))
    }
}

/// The inner map that is pinned at `path`.
fn open(path: &Path) -> Result<Inner, DatapathError> {
    map_from_pin(path, KEYS)?
        .try_into()
        .map_err(DatapathError::map(KEYS))
}

impl AcceptKeys for KeyStore {
    type Error = DatapathError;

    fn accept(&mut self, keys: &KeySet) -> Result<(), DatapathError> {
        self.set(keys)
    }
}
