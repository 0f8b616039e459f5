//! The inner maps of maps of maps: their creation; and arrays that the controller replaces as a whole, each pinned beside the
//! one in force.

use std::path::Path;

use aya::{
    Pod,
    maps::{Array, MapData},
};
use aya_obj::generated::bpf_map_type;

use crate::datapath::{
    error::DatapathError,
    pins::{map_from_pin, remove_file},
};

/// Opens the array of the map `name` that is pinned at `path`.
pub(super) fn open<V: Pod>(
    path: &Path,
    name: &'static str,
) -> Result<Array<MapData, V>, DatapathError> {
    map_from_pin(path, name)?
        .try_into()
        .map_err(DatapathError::map(name))
}

/// Pins an array of the map `name` at `next`, in place of what a killed process left there, and opens it by the pin.
pub(super) fn pin<V: Pod>(
    inner: Array<MapData, V>,
    next: &Path,
    name: &'static str,
) -> Result<Array<MapData, V>, DatapathError> {
    remove_file(next)?;
    inner.pin(next).map_err(DatapathError::pin(next))?;
    open(next, name)
}

/// Creates a map for the map of maps `name`, with keys of `K` and values of `V`.
pub(super) fn create<K, V>(
    name: &'static str,
    kind: bpf_map_type,
    entries: u32,
    flags: u32,
) -> Result<MapData, DatapathError> {
    let (key, value) = (size_of::<K>() as u32, size_of::<V>() as u32);
    let map = aya_obj::Map::new_from_params(kind as u32, key, value, entries, flags);
    MapData::create(map, name, None).map_err(DatapathError::map(name))
}
