//! How an interface was attached, for a later run of the controller.

use std::path::Path;

use aya::maps::{Array, MapData};

use super::{DatapathError, Mirror, program::map_from_pin};

const NAME: &str = "info";

/// Pinned as the only value of an array.
#[derive(Clone, Copy)]
#[repr(C)]
struct Info {
    /// 1 for [`Mirror::Exact`].
    exact: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are of its type.
unsafe impl aya::Pod for Info {}

/// Pins it at `path`.
pub(super) fn write(path: &Path, mirror: Mirror) -> Result<(), DatapathError> {
    let info = Info {
        exact: u64::from(mirror == Mirror::Exact),
    };
    let mut map: Array<MapData, Info> = Array::create(1, 0).map_err(DatapathError::map(NAME))?;
    map.set(0, info, 0).map_err(DatapathError::map(NAME))?;
    map.pin(path).map_err(|source| DatapathError::Pin {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Reads it from `path`.
pub(super) fn read(path: &Path) -> Result<Mirror, DatapathError> {
    let map = map_from_pin(path, NAME)?;
    let map: Array<MapData, Info> = map.try_into().map_err(DatapathError::map(NAME))?;
    let info = map.get(&0, 0).map_err(DatapathError::map(NAME))?;
    Ok(match info.exact {
        0 => Mirror::Packet,
        _ => Mirror::Exact,
    })
}
