//! What a namespace can be told, by flags, by its own section of the file, or by the file's top: what the
//! first of them says, holds.

use std::{path::PathBuf, time::Duration};

use crate::{
    datapath::{Mirror, ModeChoice, Settings, SourceLimits},
    farm::FarmConfig,
    keys::{OnForeignChange, SourceConfig},
};

/// How long a key is primary, unless someone says so.
pub const DEFAULT_INTERVAL: Duration = Duration::from_secs(86_400);
/// The shortest interval of keys that are derived from a secret, and the longest: tofurkey's.
const SECRET_INTERVAL: [u64; 2] = [10, 604_800];

/// What a source is called.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum SourceKind {
    /// Random keys, for this host alone.
    #[default]
    Random,
    /// Keys derived from a secret and the clock.
    Secret,
    /// Keys that someone else writes into a file.
    File,
    /// Keys of a farm, whose hosts rotate together by way of etcd.
    Etcd,
    /// Keys that someone else writes into the kernel.
    Kernel,
}

/// What may be said, or left to what stands below.
#[derive(Clone, Debug, Default)]
pub struct Layer {
    /// How to attach.
    pub mode: Option<ModeChoice>,
    /// How closely to follow the kernel.
    pub mirror: Option<Mirror>,
    /// Most sources to keep counts of.
    pub max_sources: Option<u32>,
    /// Bits of an IPv4 source's prefix.
    pub source_prefix_v4: Option<u8>,
    /// Bits of an IPv6 source's prefix.
    pub source_prefix_v6: Option<u8>,
    /// Where keys come from.
    pub key_source: Option<SourceKind>,
    /// How long each is primary.
    pub interval: Option<Duration>,
    /// The file of the secret or of the keys.
    pub key_path: Option<PathBuf>,
    /// What to do where someone else changes the kernel's keys.
    pub on_foreign_change: Option<OnForeignChange>,
    /// The farm that keys of etcd are for.
    pub farm: Option<FarmConfig>,
}

/// What of a layer is wrong, so that its line can be found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Field {
    Interval,
    Path,
    Source,
}

impl Layer {
    /// This one's word, else that of the one below.
    #[must_use]
    pub fn over(self, below: &Self) -> Self {
        Self {
            mode: self.mode.or(below.mode),
            mirror: self.mirror.or(below.mirror),
            max_sources: self.max_sources.or(below.max_sources),
            source_prefix_v4: self.source_prefix_v4.or(below.source_prefix_v4),
            source_prefix_v6: self.source_prefix_v6.or(below.source_prefix_v6),
            key_source: self.key_source.or(below.key_source),
            interval: self.interval.or(below.interval),
            key_path: self.key_path.or_else(|| below.key_path.clone()),
            on_foreign_change: self.on_foreign_change.or(below.on_foreign_change),
            farm: self.farm.or_else(|| below.farm.clone()),
        }
    }

    /// What the program is told.
    pub(super) fn settings(&self) -> Settings {
        let default = SourceLimits::default();
        Settings {
            mirror: self.mirror.unwrap_or_default(),
            sources: SourceLimits {
                max: self.max_sources.unwrap_or(default.max),
                v4: self.source_prefix_v4.unwrap_or(default.v4),
                v6: self.source_prefix_v6.unwrap_or(default.v6),
            },
        }
    }

    /// Where keys come from; else what is wrong, and with which field.
    pub(super) fn source(&self) -> Result<SourceConfig, (Field, String)> {
        let interval = self.interval.unwrap_or(DEFAULT_INTERVAL);
        let path = |what: &str| {
            self.key_path.clone().ok_or_else(|| {
                let name = format!("{what:?}");
                (
                    Field::Source,
                    format!("key source {name} reads a file: give its path"),
                )
            })
        };
        Ok(match self.key_source.unwrap_or_default() {
            SourceKind::Random => SourceConfig::Random { interval },
            SourceKind::Kernel => SourceConfig::Kernel,
            SourceKind::File => SourceConfig::File {
                path: path("file")?,
            },
            SourceKind::Etcd => SourceConfig::Etcd(Box::new(FarmConfig {
                interval,
                ..self.farm()?
            })),
            SourceKind::Secret => {
                let [least, most] = SECRET_INTERVAL;
                let seconds = interval.as_secs();
                if !(least..=most).contains(&seconds) || !seconds.is_multiple_of(2) {
                    return Err((
                        Field::Interval,
                        format!(
                            "interval of {seconds} s: with key source \"secret\" it is an even number of seconds from {least}s to 7d, the same on all hosts"
                        ),
                    ));
                }
                SourceConfig::Secret {
                    path: path("secret")?,
                    interval,
                }
            }
        })
    }

    /// The farm, which has to be known.
    fn farm(&self) -> Result<FarmConfig, (Field, String)> {
        let wrong = |message: &str| Err((Field::Source, message.to_owned()));
        if self.on_foreign_change == Some(OnForeignChange::Follow) {
            return wrong(
                "on-foreign-change = \"follow\" would have this host issue keys that its farm refuses: take it out where source is \"etcd\"",
            );
        }
        match &self.farm {
            Some(farm) => Ok(farm.clone()),
            None => wrong(
                "key source \"etcd\" is for a farm: add a section [farm] with its endpoints to the file",
            ),
        }
    }

    /// Refuses a path that nothing would read.
    pub(super) fn check_path(&self) -> Result<(), (Field, String)> {
        let reads = matches!(
            self.key_source.unwrap_or_default(),
            SourceKind::Secret | SourceKind::File
        );
        if self.key_path.is_some() && !reads {
            return Err((
                Field::Path,
                "nothing reads this path: add source = \"secret\" or source = \"file\"".to_owned(),
            ));
        }
        Ok(())
    }
}
