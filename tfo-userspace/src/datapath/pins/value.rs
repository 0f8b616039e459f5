//! A value that is pinned for a later run of the controller: the only one of an array.

use std::path::Path;

use aya::{
    Pod,
    maps::{Array, MapData},
};

use super::{DatapathError, program::map_from_pin};

/// Reads what is pinned at `path`.
pub(super) fn read<V: Pod>(path: &Path, name: &'static str) -> Result<V, DatapathError> {
    open(path, name)?
        .get(&0, 0)
        .map_err(DatapathError::map(name))
}

/// Writes what is pinned at `path`, and pins it there if nothing is yet.
pub(super) fn write<V: Pod>(
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
