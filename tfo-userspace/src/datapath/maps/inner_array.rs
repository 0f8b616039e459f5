//! The inner arrays of maps of maps that the controller replaces as a whole: each is pinned beside the one in force.

use std::path::Path;

use aya::{
    Pod,
    maps::{Array, MapData},
};

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
