//! How an interface was attached, for a later run of the controller.

use std::path::Path;

use aya::maps::{Array, MapData};

use super::{DatapathError, Mirror, Settings, SourceLimits, program::map_from_pin};

const NAME: &str = "info";

/// Pinned as the only value of an array.
#[derive(Clone, Copy)]
#[repr(C)]
struct Info {
    /// 1 for [`Mirror::Exact`].
    exact: u64,
    /// [`SourceLimits`], field by field.
    max_sources: u64,
    source_v4: u64,
    source_v6: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are of its type.
unsafe impl aya::Pod for Info {}

/// Pins it at `path`.
pub(super) fn write(path: &Path, settings: Settings) -> Result<(), DatapathError> {
    let Settings { mirror, sources } = settings;
    let info = Info {
        exact: u64::from(mirror == Mirror::Exact),
        max_sources: sources.max.into(),
        source_v4: sources.v4.into(),
        source_v6: sources.v6.into(),
    };
    let mut map: Array<MapData, Info> = Array::create(1, 0).map_err(DatapathError::map(NAME))?;
    map.set(0, info, 0).map_err(DatapathError::map(NAME))?;
    map.pin(path).map_err(|source| DatapathError::Pin {
        path: path.to_owned(),
        source: Box::new(source),
    })
}

/// Reads it from `path`.
pub(super) fn read(path: &Path) -> Result<Settings, DatapathError> {
    let map = map_from_pin(path, NAME)?;
    let map: Array<MapData, Info> = map.try_into().map_err(DatapathError::map(NAME))?;
    let info = map.get(&0, 0).map_err(DatapathError::map(NAME))?;
    Ok(Settings {
        mirror: match info.exact {
            0 => Mirror::Packet,
            _ => Mirror::Exact,
        },
        sources: SourceLimits {
            max: info.max_sources as u32,
            v4: info.source_v4 as u8,
            v6: info.source_v6 as u8,
        },
    })
}
