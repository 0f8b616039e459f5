//! The memory of SYNs whose data came before.

use std::{fs, time::Duration};

use aya::maps::{Array, ArrayOfMaps, Map, MapData};
use tfo_common::{
    abi::{ONCE, ONCE_INNER_FLAGS},
    policy::once::OnceHead,
};

use super::inner_map;
use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, remove_file},
    },
    model::{OnceMemory, random_key},
};

/// Its values are an [`OnceHead`] and lines of the same length, which only the program reads.
type Inner = Array<MapData, OnceHead>;

/// The map of maps `ONCE`.
pub(super) struct OnceStore {
    outer: ArrayOfMaps<MapData, Inner>,
    /// The pins of the inner map, since reading it through the outer one takes `CAP_SYS_ADMIN`;
    /// `None` where nothing is pinned.
    pins: Option<NamespacePins>,
}

impl OnceStore {
    pub(super) fn new(map: Map, pins: Option<&NamespacePins>) -> Result<Self, DatapathError> {
        Ok(Self {
            outer: map.try_into().map_err(DatapathError::map(ONCE))?,
            pins: pins.cloned(),
        })
    }

    /// The settings in force; `None` where there are none, or the map is not pinned.
    pub(super) fn get(&self) -> Result<Option<OnceMemory>, DatapathError> {
        Ok(self.head()?.map(|head| memory_of(&head)))
    }

    fn head(&self) -> Result<Option<OnceHead>, DatapathError> {
        let Some(pins) = &self.pins else {
            return Ok(None);
        };
        // A process that was killed leaves the second alone.
        let mut paths = [pins.in_force(ONCE), pins.next(ONCE)].into_iter();
        let Some(path) = paths.find(|path| path.exists()) else {
            return Ok(None);
        };
        let inner: Inner = inner_map::open(&path, ONCE)?;
        let head = inner.get(&0, 0).map_err(DatapathError::map(ONCE))?;
        Ok(Some(head))
    }

    /// Puts settings in force, with room for SYNs if a rule `needs` it. A memory that is in force with the same settings stays,
    /// and what it remembers; a new one remembers nothing.
    pub(super) fn set(&mut self, memory: OnceMemory, needs: bool) -> Result<(), DatapathError> {
        if !needs && memory == OnceMemory::default() {
            return self.clear();
        }
        let lines = if needs { memory.lines() } else { 0 };
        let is_same = |head: OnceHead| memory_of(&head) == memory && head.lines == lines;
        if self.head()?.is_some_and(is_same) && self.pins.as_ref().is_some_and(is_whole) {
            return Ok(());
        }
        let inner = create(&OnceHead {
            lifetime: memory.lifetime.as_nanos() as u64,
            lines,
            capacity: memory.capacity.into(),
            key: random_key().map_err(DatapathError::Random)?.words(),
            ..OnceHead::NONE
        })?;
        let Some(pins) = &self.pins else {
            return self.put(&inner);
        };
        let (next, path) = (pins.next(ONCE), pins.in_force(ONCE));
        let pinned = inner_map::pin(inner, &next, ONCE)?;
        // From here on, a process that is killed leaves what the next change replaces.
        remove_file(&path)?;
        self.put(&pinned)?;
        fs::rename(&next, &path).map_err(DatapathError::io(&next))
    }

    /// Frees the memory and forgets its settings.
    pub(super) fn clear(&mut self) -> Result<(), DatapathError> {
        if self.head()?.is_none() {
            return Ok(());
        }
        // In this order: a process that is killed leaves a memory that the next change replaces.
        if let Some(pins) = &self.pins {
            remove_file(&pins.in_force(ONCE))?;
            remove_file(&pins.next(ONCE))?;
        }
        self.put(&create(&OnceHead::NONE)?)
    }

    fn put(&mut self, inner: &Inner) -> Result<(), DatapathError> {
        self.outer
            .set(0, inner, 0)
            .map_err(DatapathError::map(ONCE))
    }
}

fn memory_of(head: &OnceHead) -> OnceMemory {
    OnceMemory {
        lifetime: Duration::from_nanos(head.lifetime),
        capacity: head.capacity as u32,
    }
}

/// The pin is that of the map in force: no change was cut off.
fn is_whole(pins: &NamespacePins) -> bool {
    pins.in_force(ONCE).exists() && !pins.next(ONCE).exists()
}

fn create(head: &OnceHead) -> Result<Inner, DatapathError> {
    let error = DatapathError::map(ONCE);
    let mut inner = Inner::create(1 + head.lines as u32, ONCE_INNER_FLAGS).map_err(&error)?;
    inner.set(0, head, 0).map_err(error)?;
    Ok(inner)
}
