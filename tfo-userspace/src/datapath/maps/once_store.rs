//! The memory of SYNs whose data came before.

use std::{fs, time::Duration};

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use tfo_common::{
    abi::{ONCE, ONCE_INNER_FLAGS},
    policy::once::OnceHead,
};

use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, map_from_pin, remove_file},
    },
    model::{OnceMemory, random_key},
};

/// Its values are an [`OnceHead`] and lines of the same length, which only the program reads.
type Inner = Array<MapData, OnceHead>;

/// The map of maps `ONCE`.
pub(super) struct OnceStore {
    outer: ArrayOfMaps<MapData, Inner>,
    /// Where the inner map is pinned, since reading it through the outer one takes `CAP_SYS_ADMIN`; `None` where nothing is.
    pins: Option<NamespacePins>,
}

impl OnceStore {
    pub(super) fn new(map: Map, pins: Option<&NamespacePins>) -> Result<Self, DatapathError> {
        Ok(Self {
            outer: map.try_into().map_err(DatapathError::map(ONCE))?,
            pins: pins.cloned(),
        })
    }

    /// The memory in force; `None` where there is none, or the map is not pinned.
    pub(super) fn get(&self) -> Result<Option<OnceMemory>, DatapathError> {
        let path = self.pins.as_ref().map(|pins| pins.in_force(ONCE));
        let Some(path) = path.filter(|path| path.exists()) else {
            return Ok(None);
        };
        let inner: Inner = map_from_pin(&path, ONCE)?
            .try_into()
            .map_err(DatapathError::map(ONCE))?;
        let head = inner.get(&0, 0).map_err(DatapathError::map(ONCE))?;
        Ok(Some(OnceMemory {
            lifetime: Duration::from_nanos(head.lifetime),
            capacity: (head.lines * OnceHead::SYNS_PER_LINE) as u32,
        }))
    }

    /// Puts a memory in force. One that is in force with the same settings stays, and what it remembers; a new one remembers
    /// nothing.
    pub(super) fn set(&mut self, memory: OnceMemory) -> Result<(), DatapathError> {
        if self.get()? == Some(memory) {
            return Ok(());
        }
        let lines = u64::from(memory.capacity) / OnceHead::SYNS_PER_LINE;
        let inner = self.create(&OnceHead {
            lifetime: memory.lifetime.as_nanos() as u64,
            lines,
            key: random_key().map_err(DatapathError::Random)?.words(),
            reserved: [0; 4],
        })?;
        let Some(pins) = &self.pins else {
            return self.put(&inner);
        };
        let (next, path) = (pins.next(ONCE), pins.in_force(ONCE));
        // Left by a killed process.
        remove_file(&next)?;
        inner.pin(&next).map_err(DatapathError::pin(&next))?;
        let pinned: Inner = map_from_pin(&next, ONCE)?
            .try_into()
            .map_err(DatapathError::map(ONCE))?;
        self.put(&pinned)?;
        fs::rename(&next, &path).map_err(DatapathError::io(&next))
    }

    /// Frees the memory, once no rule needs it.
    pub(super) fn clear(&mut self) -> Result<(), DatapathError> {
        let Some(path) = self.pins.as_ref().map(|pins| pins.in_force(ONCE)) else {
            return Ok(());
        };
        if !path.exists() {
            return Ok(());
        }
        let none = self.create(&OnceHead {
            lifetime: 0,
            lines: 0,
            key: [0; 2],
            reserved: [0; 4],
        })?;
        self.put(&none)?;
        remove_file(&path)
    }

    fn create(&self, head: &OnceHead) -> Result<Inner, DatapathError> {
        let error = DatapathError::map(ONCE);
        let mut inner = Inner::create(1 + head.lines as u32, ONCE_INNER_FLAGS).map_err(&error)?;
        inner.set(0, head, 0).map_err(error)?;
        Ok(inner)
    }

    fn put(&mut self, inner: &Inner) -> Result<(), DatapathError> {
        self.outer
            .set(0, inner, 0)
            .map_err(DatapathError::map(ONCE))
    }
}
