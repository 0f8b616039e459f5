//! Settings of a namespace that may come from its section of the file, the flags or the file's top level. The first
//! of them that sets a value wins.

use std::{path::PathBuf, time::Duration};

use super::key_source::KeySourceConfig;
use crate::{
    farm::FarmConfig,
    keys::OnForeignChange,
    model::{Decap, Mirror, ModeChoice, Settings, SourceLimits},
};

/// The default time for which a key is primary.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(86_400);
/// Shortest and longest interval of keys derived from a secret, in seconds: those of tofurkey.
const MIN_SECRET_INTERVAL: u64 = 10;
const MAX_SECRET_INTERVAL: u64 = 604_800;

/// The kind of a key source.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Random keys, for this host alone.
    #[default]
    Random,
    /// Keys derived from a secret and the clock.
    Secret,
    /// Keys that another program writes into a file.
    File,
    /// Keys of a farm, whose hosts rotate together by way of etcd.
    Etcd,
    /// Keys that another program writes into the kernel.
    Kernel,
}

/// The settings of one layer; `None` where it leaves a setting to the layer below.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// The attach mode.
    pub mode: Option<ModeChoice>,
    /// Socket lookup: exact, or by the packet alone.
    pub mirror: Option<Mirror>,
    /// Most sources that are counted.
    pub max_sources: Option<u32>,
    /// Prefix length by which IPv4 sources are counted.
    pub source_prefix_v4: Option<u8>,
    /// Prefix length by which IPv6 sources are counted.
    pub source_prefix_v6: Option<u8>,
    /// The tunnels that are read through.
    pub decap: Option<Decap>,
    /// The source of keys.
    pub key_source: Option<SourceKind>,
    /// The time for which a key is primary.
    pub interval: Option<Duration>,
    /// The file of the secret or of the keys.
    pub key_path: Option<PathBuf>,
    /// The reaction to a change of the kernel's keys by another process.
    pub on_foreign_change: Option<OnForeignChange>,
    /// The farm of [`SourceKind::Etcd`].
    pub farm: Option<FarmConfig>,
}

/// A field of `[keys]`, for the line of an error.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum KeyField {
    Interval,
    Path,
    Source,
}

impl Layer {
    /// The settings of this layer, and those of `below` where it has none.
    #[must_use]
    pub fn over(self, below: &Self) -> Self {
        Self {
            mode: self.mode.or(below.mode),
            mirror: self.mirror.or(below.mirror),
            max_sources: self.max_sources.or(below.max_sources),
            source_prefix_v4: self.source_prefix_v4.or(below.source_prefix_v4),
            source_prefix_v6: self.source_prefix_v6.or(below.source_prefix_v6),
            decap: self.decap.or(below.decap),
            key_source: self.key_source.or(below.key_source),
            interval: self.interval.or(below.interval),
            key_path: self.key_path.or_else(|| below.key_path.clone()),
            on_foreign_change: self.on_foreign_change.or(below.on_foreign_change),
            farm: self.farm.or_else(|| below.farm.clone()),
        }
    }

    pub(super) fn settings(&self) -> Settings {
        let default = SourceLimits::default();
        Settings {
            mirror: self.mirror.unwrap_or_default(),
            sources: SourceLimits {
                max: self.max_sources.unwrap_or(default.max),
                v4: self.source_prefix_v4.unwrap_or(default.v4),
                v6: self.source_prefix_v6.unwrap_or(default.v6),
            },
            decap: self.decap.unwrap_or_default(),
        }
    }

    /// The key source, or the field of a mistake and a message with its remedy.
    pub(super) fn source(&self) -> Result<KeySourceConfig, (KeyField, String)> {
        let interval = self.interval.unwrap_or(DEFAULT_INTERVAL);
        let path = |what: &str| {
            self.key_path.clone().ok_or_else(|| {
                let name = format!("{what:?}");
                (
                    KeyField::Source,
                    format!("key source {name} reads a file: give its path"),
                )
            })
        };
        Ok(match self.key_source.unwrap_or_default() {
            SourceKind::Random => KeySourceConfig::Random { interval },
            SourceKind::Kernel => KeySourceConfig::Kernel,
            SourceKind::File => KeySourceConfig::File {
                path: path("file")?,
            },
            SourceKind::Etcd => KeySourceConfig::Etcd(Box::new(FarmConfig {
                interval,
                ..self.farm()?
            })),
            SourceKind::Secret => {
                let seconds = interval.as_secs();
                if !(MIN_SECRET_INTERVAL..=MAX_SECRET_INTERVAL).contains(&seconds)
                    || !seconds.is_multiple_of(2)
                {
                    return Err((
                        KeyField::Interval,
                        format!(
                            "interval of {seconds} s: with key source \"secret\" it must be an even number of seconds from {MIN_SECRET_INTERVAL}s to 7d, the same on all hosts"
                        ),
                    ));
                }
                KeySourceConfig::Secret {
                    path: path("secret")?,
                    interval,
                }
            }
        })
    }

    /// The farm of [`SourceKind::Etcd`].
    fn farm(&self) -> Result<FarmConfig, (KeyField, String)> {
        let wrong = |message: &str| Err((KeyField::Source, message.to_owned()));
        if self.on_foreign_change == Some(OnForeignChange::Follow) {
            return wrong(
                "on-foreign-change = \"follow\" would have this host issue keys that its farm refuses: remove it, or choose another source than \"etcd\"",
            );
        }
        match &self.farm {
            Some(farm) => Ok(farm.clone()),
            None => wrong(
                "key source \"etcd\" is for a farm: add a section [farm] with the endpoints of etcd to the file",
            ),
        }
    }

    /// Refuses an interval of keys that another program changes.
    pub(super) fn check_interval(&self) -> Result<(), (KeyField, String)> {
        let source = match self.key_source {
            Some(SourceKind::File) => "file",
            Some(SourceKind::Kernel) => "kernel",
            _ => return Ok(()),
        };
        if self.interval.is_none() {
            return Ok(());
        }
        Err((
            KeyField::Interval,
            format!(
                "nothing uses this interval: with key source {source:?}, whoever writes the keys sets it: remove the interval, or choose another source"
            ),
        ))
    }

    /// Refuses a path that the source does not read.
    pub(super) fn check_path(&self) -> Result<(), (KeyField, String)> {
        let reads = matches!(
            self.key_source.unwrap_or_default(),
            SourceKind::Secret | SourceKind::File
        );
        if self.key_path.is_some() && !reads {
            return Err((
                KeyField::Path,
                "nothing reads this path: add source = \"secret\" or source = \"file\", or remove it".to_owned(),
            ));
        }
        Ok(())
    }
}
