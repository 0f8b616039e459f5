//! Memory of sources that may waste cookies.

use std::{collections::BTreeMap, fs, io};

use aya::maps::{Array, ArrayOfMaps, HashMap, Map, MapData, MapError};
use aya_obj::generated::bpf_map_type;
use tfo_common::{
    abi::{REMEMBERED_SOURCES, SOURCE_MEMORY, SYN_NOTES},
    policy::withhold::{NOTES_KEY, SourceState},
    wire::addresses::Address,
};

use super::{batch, inner_map::create};
use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, remove_file},
    },
    model::{Prefix, random_key},
};

/// The map of maps `SOURCE_MEMORY`.
pub(super) struct WithholdStore {
    outer: ArrayOfMaps<MapData, MapData>,
    notes: Array<MapData, u64>,
    /// The pins of the inner map, since reading it through the outer one takes `CAP_SYS_ADMIN`;
    /// `None` where nothing is pinned.
    pins: Option<NamespacePins>,
}

impl WithholdStore {
    pub(super) fn new(
        [memory, notes]: [Map; 2],
        pins: Option<&NamespacePins>,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            outer: memory
                .try_into()
                .map_err(DatapathError::map(SOURCE_MEMORY))?,
            notes: notes.try_into().map_err(DatapathError::map(SYN_NOTES))?,
            pins: pins.cloned(),
        })
    }

    /// Begins to remember, unless that has begun and the prefix lengths, for IPv4 and IPv6, are those of `before`.
    pub(super) fn set(
        &mut self,
        lengths: (u8, u8),
        before: Option<(u8, u8)>,
    ) -> Result<(), DatapathError> {
        let begun = self.pins.as_ref().is_some_and(|pins| {
            pins.in_force(SOURCE_MEMORY).exists() && !pins.next(SOURCE_MEMORY).exists()
        });
        if begun && before == Some(lengths) {
            return Ok(());
        }
        let [key, _] = random_key().map_err(DatapathError::Random)?.words();
        self.notes
            .set(NOTES_KEY, key, 0)
            .map_err(DatapathError::map(SYN_NOTES))?;
        let inner = memory(REMEMBERED_SOURCES)?;
        let Some(pins) = &self.pins else {
            return self.put(&inner);
        };
        let (next, path) = (pins.next(SOURCE_MEMORY), pins.in_force(SOURCE_MEMORY));
        remove_file(&next)?;
        inner.pin(&next).map_err(DatapathError::pin(&next))?;
        // From here on, a process that is killed leaves what the next change replaces.
        remove_file(&path)?;
        self.put(&inner)?;
        fs::rename(&next, &path).map_err(DatapathError::io(&next))
    }

    /// Forgets all sources, and frees the memory.
    pub(super) fn clear(&mut self) -> Result<(), DatapathError> {
        if let Some(pins) = &self.pins {
            let paths = [pins.in_force(SOURCE_MEMORY), pins.next(SOURCE_MEMORY)];
            if !paths.iter().any(|path| path.exists()) {
                return Ok(());
            }
            paths.iter().try_for_each(|path| remove_file(path))?;
        }
        self.put(&memory(1)?)
    }

    /// The sources by prefix; none where nothing is remembered.
    pub(super) fn sources(
        &self,
        (v4, v6): (u8, u8),
    ) -> Result<BTreeMap<Prefix, SourceState>, DatapathError> {
        let Some(map) = self.open()? else {
            return Ok(BTreeMap::new());
        };
        let error =
            |source: io::Error| DatapathError::map(SOURCE_MEMORY)(MapError::IoError(source));
        // Handshakes replace entries during the read, so it may return more than the map holds.
        let most = 2 * REMEMBERED_SOURCES as usize;
        let entries = batch::entries::<Address, SourceState>(&map, most).map_err(error)?;
        let entries = entries.into_iter();
        Ok(entries
            .map(|(address, state)| (Prefix::of_map(address, v4, v6), state))
            .collect())
    }

    /// Forgets the source of this prefix.
    pub(super) fn forget(&self, prefix: Prefix) -> Result<(), DatapathError> {
        let Some(map) = self.open()? else {
            return Ok(());
        };
        let mut map: HashMap<_, Address, SourceState> = Map::LruHashMap(map)
            .try_into()
            .map_err(DatapathError::map(SOURCE_MEMORY))?;
        match map.remove(&Address::of_ip(prefix.address)) {
            Err(MapError::KeyNotFound) => Ok(()),
            removed => removed.map_err(DatapathError::map(SOURCE_MEMORY)),
        }
    }

    fn open(&self) -> Result<Option<MapData>, DatapathError> {
        let Some(pins) = &self.pins else {
            return Ok(None);
        };
        let path = pins.present(SOURCE_MEMORY);
        if !path.exists() {
            return Ok(None);
        }
        let map = MapData::from_pin(path).map_err(DatapathError::map(SOURCE_MEMORY))?;
        Ok(Some(map))
    }

    fn put(&mut self, inner: &MapData) -> Result<(), DatapathError> {
        self.outer
            .set(0, inner, 0)
            .map_err(DatapathError::map(SOURCE_MEMORY))
    }
}

fn memory(entries: u32) -> Result<MapData, DatapathError> {
    create::<Address, SourceState>(
        SOURCE_MEMORY,
        bpf_map_type::BPF_MAP_TYPE_LRU_HASH,
        entries,
        0,
    )
}
