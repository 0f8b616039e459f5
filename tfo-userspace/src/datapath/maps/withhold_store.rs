//! What is remembered of sources that may waste cookies.

use std::{collections::BTreeMap, io};

use aya::maps::{ArrayOfMaps, HashMap, Map, MapData, MapError};
use aya_obj::generated::bpf_map_type;
use tfo_common::{
    abi::{REMEMBERED_SOURCES, SOURCE_MEMORY},
    policy::withhold::SourceState,
    wire::addresses::Address,
};

use super::{batch, inner_map::create};
use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, remove_file},
    },
    model::Prefix,
};

/// The map of maps `SOURCE_MEMORY`.
pub(super) struct WithholdStore {
    outer: ArrayOfMaps<MapData, MapData>,
    /// Where the inner map is pinned, since reading it through the outer one takes `CAP_SYS_ADMIN`; `None` where nothing is.
    pins: Option<NamespacePins>,
}

impl WithholdStore {
    pub(super) fn new(map: Map, pins: Option<&NamespacePins>) -> Result<Self, DatapathError> {
        Ok(Self {
            outer: map.try_into().map_err(DatapathError::map(SOURCE_MEMORY))?,
            pins: pins.cloned(),
        })
    }

    /// Begins to remember, unless that has begun and the prefix lengths, for IPv4 and IPv6, are those of `before`.
    pub(super) fn set(
        &mut self,
        lengths: (u8, u8),
        before: Option<(u8, u8)>,
    ) -> Result<(), DatapathError> {
        let path = self.pins.as_ref().map(|pins| pins.in_force(SOURCE_MEMORY));
        let begun = path.as_ref().is_some_and(|path| path.exists());
        if begun && before == Some(lengths) {
            return Ok(());
        }
        let inner = memory(REMEMBERED_SOURCES)?;
        self.put(&inner)?;
        let Some(path) = path else {
            return Ok(());
        };
        remove_file(&path)?;
        inner.pin(&path).map_err(DatapathError::pin(&path))
    }

    /// Forgets all sources, and frees the memory.
    pub(super) fn clear(&mut self) -> Result<(), DatapathError> {
        let path = self.pins.as_ref().map(|pins| pins.in_force(SOURCE_MEMORY));
        if path.as_ref().is_some_and(|path| !path.exists()) {
            return Ok(());
        }
        self.put(&memory(1)?)?;
        path.map_or(Ok(()), |path| remove_file(&path))
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
        let prefix = |address: Address| {
            let address = address.ip();
            let len = if address.is_ipv4() { v4 } else { v6 };
            Prefix { address, len }
        };
        let entries = entries.into_iter();
        Ok(entries
            .map(|(address, state)| (prefix(address), state))
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
        let path = self.pins.as_ref().map(|pins| pins.in_force(SOURCE_MEMORY));
        let Some(path) = path.filter(|path| path.exists()) else {
            return Ok(None);
        };
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
