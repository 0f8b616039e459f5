//! Pinned maps, and pinned values: arrays of one entry that a later run of the controller reads.

use std::path::Path;

use aya::{
    Pod,
    maps::{Array, Map, MapData},
};

use crate::datapath::error::DatapathError;

/// Opens the map pinned at `path`; `name` is for the error.
pub(crate) fn map_from_pin(path: &Path, name: &'static str) -> Result<Map, DatapathError> {
    let data = MapData::from_pin(path).map_err(DatapathError::map(name))?;
    Map::from_map_data(data).map_err(DatapathError::map(name))
}

/// Reads the value pinned at `path`.
pub(crate) fn read_value<V: Pod>(path: &Path, name: &'static str) -> Result<V, DatapathError> {
    open(path, name)?
        .get(&0, 0)
        .map_err(DatapathError::map(name))
}

/// Writes the value pinned at `path`; creates and pins the array where there is none.
pub(crate) fn write_value<V: Pod>(
    path: &Path,
    name: &'static str,
    value: V,
) -> Result<(), DatapathError> {
    let set = |map: &mut Array<MapData, V>| map.set(0, value, 0).map_err(DatapathError::map(name));
    if path.exists() {
        return set(&mut open(path, name)?);
    }
    let mut map = Array::create(1, 0).map_err(DatapathError::map(name))?;
    set(&mut map)?;
    map.pin(path).map_err(DatapathError::pin(path))
}

fn open<V: Pod>(path: &Path, name: &'static str) -> Result<Array<MapData, V>, DatapathError> {
    let map = map_from_pin(path, name)?;
    map.try_into().map_err(DatapathError::map(name))
}
