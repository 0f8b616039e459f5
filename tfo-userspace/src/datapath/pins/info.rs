//! The settings with which an interface was attached.

use std::path::Path;

use super::value::{read_value, write_value};
use crate::{
    datapath::error::DatapathError,
    model::{Mirror, Settings, SourceLimits},
};

const NAME: &str = "info";

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

/// Pins `settings` at `path`.
pub(crate) fn write_settings(path: &Path, settings: Settings) -> Result<(), DatapathError> {
    let Settings { mirror, sources } = settings;
    let info = Info {
        exact: u64::from(mirror == Mirror::Exact),
        max_sources: sources.max.into(),
        source_v4: sources.v4.into(),
        source_v6: sources.v6.into(),
    };
    write_value(path, NAME, info)
}

/// Reads the settings pinned at `path`.
pub(crate) fn read_settings(path: &Path) -> Result<Settings, DatapathError> {
    let info: Info = read_value(path, NAME)?;
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
