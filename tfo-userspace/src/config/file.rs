//! The configuration file, as it is written.

use std::{ops::Range, path::PathBuf, str::FromStr, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{
    farm::Section as FarmSection,
    interval,
    layer::{Field, Layer, SourceKind},
};
use crate::{
    datapath::{Mirror, ModeChoice},
    guard::Section as GuardSection,
    keys::OnForeignChange,
    metrics::Listen,
    policy::Section,
};

/// All of it.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) interfaces: Vec<Spanned<String>>,
    mode: Option<ModeChoice>,
    mirror: Option<Mirror>,
    pub(super) detach_on_exit: Option<bool>,
    pub(super) ports: Vec<Spanned<i64>>,
    sources: Sources,
    keys: Keys,
    pub(super) policy: Option<Spanned<Section>>,
    pub(super) guard: Option<Spanned<GuardSection>>,
    pub(super) metrics: Option<Metrics>,
    pub(super) farm: Option<FarmSection>,
    pub(super) namespace: Vec<Namespace>,
}

/// A network namespace beside the one that the service was started in.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Namespace {
    pub(super) name: Spanned<String>,
    pub(super) interfaces: Vec<Spanned<String>>,
    mode: Option<ModeChoice>,
    mirror: Option<Mirror>,
    #[serde(default)]
    sources: Sources,
    #[serde(default)]
    keys: Keys,
    /// In place of the file's own, as a whole.
    pub(super) policy: Option<Spanned<Section>>,
    /// The same.
    pub(super) guard: Option<Spanned<GuardSection>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Sources {
    max: Option<Within<0, 16_777_216>>,
    prefix_v4: Option<Within<0, 32>>,
    prefix_v6: Option<Within<0, 128>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct Keys {
    source: Option<Spanned<SourceKind>>,
    interval: Option<Spanned<Interval>>,
    path: Option<Spanned<PathBuf>>,
    on_foreign_change: Option<OnForeignChange>,
}

/// Where metrics are served.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct Metrics {
    pub(super) listen: Address,
}

impl Default for Metrics {
    fn default() -> Self {
        Self {
            listen: Address(Listen::DEFAULT),
        }
    }
}

/// A [`Listen`], as it is written.
#[derive(Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Address(pub(super) Listen);

impl TryFrom<String> for Address {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        Listen::from_str(&text)
            .map(Self)
            .map_err(|error| error.to_string())
    }
}

#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "String")]
pub(super) struct Interval(pub(super) Duration);

impl TryFrom<String> for Interval {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        interval(&text).map(Self)
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Deserialize)]
#[serde(try_from = "i64")]
pub(super) struct Within<const MIN: i64, const MAX: i64>(i64);

impl<const MIN: i64, const MAX: i64> TryFrom<i64> for Within<MIN, MAX> {
    type Error = String;

    fn try_from(number: i64) -> Result<Self, String> {
        if (MIN..=MAX).contains(&number) {
            Ok(Self(number))
        } else {
            Err(format!("{number} is not from {MIN} to {MAX}"))
        }
    }
}

impl<const MIN: i64, const MAX: i64> Within<MIN, MAX> {
    /// The number, in a type that the bounds fit into.
    pub(super) fn get<T: TryFrom<i64> + Default>(self) -> T {
        T::try_from(self.0).unwrap_or_default()
    }
}

/// A file of which nothing but the policy is looked at.
#[derive(Deserialize)]
pub(super) struct PolicyFile {
    pub(super) policy: Option<Spanned<Section>>,
}

impl File {
    pub(super) fn layer(&self) -> Layer {
        layer(self.mode, self.mirror, &self.sources, &self.keys)
    }

    /// Where the file says something of a field, if it does.
    pub(super) fn place(&self, field: Field) -> Option<Range<usize>> {
        self.keys.place(field)
    }
}

impl Namespace {
    pub(super) fn layer(&self) -> Layer {
        layer(self.mode, self.mirror, &self.sources, &self.keys)
    }

    /// Where the section says something of a field, else where it has its name.
    pub(super) fn place(&self, field: Field) -> Range<usize> {
        self.keys.place(field).unwrap_or(self.name.span())
    }
}

impl Keys {
    fn place(&self, field: Field) -> Option<Range<usize>> {
        let source = self.source.as_ref().map(Spanned::span);
        match field {
            Field::Source => source,
            Field::Interval => self.interval.as_ref().map(Spanned::span).or(source),
            Field::Path => self.path.as_ref().map(Spanned::span),
        }
    }
}

fn layer(
    mode: Option<ModeChoice>,
    mirror: Option<Mirror>,
    sources: &Sources,
    keys: &Keys,
) -> Layer {
    Layer {
        mode,
        mirror,
        max_sources: sources.max.map(Within::get),
        source_prefix_v4: sources.prefix_v4.map(Within::get),
        source_prefix_v6: sources.prefix_v6.map(Within::get),
        key_source: keys.source.as_ref().map(|source| *source.get_ref()),
        interval: keys.interval.as_ref().map(|interval| interval.get_ref().0),
        key_path: keys.path.as_ref().map(|path| path.get_ref().clone()),
        on_foreign_change: keys.on_foreign_change,
        // Of the whole file: it is put there by who reads it.
        farm: None,
    }
}
