//! The settings with which an interface was attached, and the mode that was asked for.

use std::path::Path;

use super::value::{read_value, write_value};
use crate::{
    datapath::error::DatapathError,
    model::{Decap, DecapWords, Mirror, ModeChoice, Settings, SourceLimits},
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
    /// Index of the [`ModeChoice`] in [`CHOICES`].
    choice: u64,
    /// [`Decap`].
    decap: DecapWords,
}

const CHOICES: [ModeChoice; 4] = [
    ModeChoice::Auto,
    ModeChoice::Native,
    ModeChoice::Generic,
    ModeChoice::Tc,
];

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are of its type.
unsafe impl aya::Pod for Info {}

/// Pins `settings` and `choice` at `path`.
pub(crate) fn write_settings(
    path: &Path,
    settings: Settings,
    choice: ModeChoice,
) -> Result<(), DatapathError> {
    let Settings {
        mirror,
        sources,
        decap,
    } = settings;
    let index = CHOICES.iter().position(|each| *each == choice);
    let info = Info {
        exact: u64::from(mirror == Mirror::Exact),
        max_sources: sources.max.into(),
        source_v4: sources.v4.into(),
        source_v6: sources.v6.into(),
        choice: index.unwrap_or_default() as u64,
        decap: decap.words(),
    };
    write_value(path, NAME, info)
}

/// Reads the settings pinned at `path`.
pub(crate) fn read_settings(path: &Path) -> Result<Settings, DatapathError> {
    read_info(path).map(|(settings, _)| settings)
}

/// Reads the settings and the mode pinned at `path`.
pub(crate) fn read_info(path: &Path) -> Result<(Settings, ModeChoice), DatapathError> {
    let info: Info = read_value(path, NAME)?;
    let choice = CHOICES.get(info.choice as usize).copied();
    let settings = Settings {
        mirror: match info.exact {
            0 => Mirror::Packet,
            _ => Mirror::Exact,
        },
        sources: SourceLimits {
            max: info.max_sources as u32,
            v4: info.source_v4 as u8,
            v6: info.source_v6 as u8,
        },
        decap: Decap::of_words(&info.decap),
    };
    Ok((settings, choice.unwrap_or_default()))
}
