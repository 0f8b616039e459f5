//! The layout of the configuration file.

use std::{ops::Range, path::PathBuf, time::Duration};

use serde::Deserialize;
use toml::Spanned;

use super::{
    farm::FarmSection,
    guard::GuardSection,
    layer::{KeyField, Layer, SourceKind},
    listeners::ListenersSection,
    own_cookies::CookiesSection,
    policy::PolicySection,
    values::{Bounded, Parsed},
};
use crate::{
    keys::OnForeignChange,
    model::{Decap, ListenAddress, Mirror, ModeChoice, Prefix, Tunnel},
};

/// The whole file.
#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct File {
    pub(super) interfaces: Vec<Spanned<String>>,
    mode: Option<ModeChoice>,
    mirror: Option<Mirror>,
    decap: Option<Spanned<Vec<Tunnel>>>,
    decap_from: Option<Spanned<Vec<Prefix>>>,
    pub(super) detach_on_exit: Option<bool>,
    pub(super) ports: Vec<Spanned<i64>>,
    sources: SourcesSection,
    keys: KeysSection,
    pub(super) policy: Option<Spanned<PolicySection>>,
    pub(super) guard: Option<Spanned<GuardSection>>,
    pub(super) cookies: Option<Spanned<CookiesSection>>,
    pub(super) listeners: Option<Spanned<ListenersSection>>,
    pub(super) metrics: Option<MetricsSection>,
    pub(super) farm: Option<FarmSection>,
    pub(super) namespace: Vec<NamespaceSection>,
}

/// `[[namespace]]`: a network namespace other than the service's own.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct NamespaceSection {
    pub(super) name: Spanned<String>,
    pub(super) interfaces: Vec<Spanned<String>>,
    mode: Option<ModeChoice>,
    mirror: Option<Mirror>,
    decap: Option<Spanned<Vec<Tunnel>>>,
    decap_from: Option<Spanned<Vec<Prefix>>>,
    #[serde(default)]
    sources: SourcesSection,
    #[serde(default)]
    keys: KeysSection,
    /// Replaces the top level's policy as a whole.
    pub(super) policy: Option<Spanned<PolicySection>>,
    /// Replaces the top level's guard as a whole.
    pub(super) guard: Option<Spanned<GuardSection>>,
    /// Replaces the top level's own cookies as a whole.
    pub(super) cookies: Option<Spanned<CookiesSection>>,
    /// Replaces the top level's listeners as a whole.
    pub(super) listeners: Option<Spanned<ListenersSection>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct SourcesSection {
    max: Option<Bounded<0, 16_777_216>>,
    prefix_v4: Option<Bounded<0, 32>>,
    prefix_v6: Option<Bounded<0, 128>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct KeysSection {
    source: Option<Spanned<SourceKind>>,
    interval: Option<Spanned<Parsed<Duration>>>,
    path: Option<Spanned<PathBuf>>,
    on_foreign_change: Option<OnForeignChange>,
}

/// `[metrics]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct MetricsSection {
    pub(super) listen: Parsed<ListenAddress>,
}

impl Default for MetricsSection {
    fn default() -> Self {
        Self {
            listen: Parsed(ListenAddress::DEFAULT),
        }
    }
}

/// A file of which only the policy is read.
#[derive(Deserialize)]
pub(super) struct PolicyFile {
    pub(super) policy: Option<Spanned<PolicySection>>,
}

impl File {
    /// The settings at this place.
    ///
    /// # Errors
    ///
    /// The bytes of a mistake, and a message with its remedy.
    pub(super) fn layer(&self) -> Result<Layer, (Range<usize>, String)> {
        let decap = decap(self.decap.as_ref(), self.decap_from.as_ref())?;
        Ok(layer(
            self.mode,
            self.mirror,
            decap,
            &self.sources,
            &self.keys,
        ))
    }

    /// The bytes of a field at the top level.
    pub(super) fn span(&self, field: KeyField) -> Option<Range<usize>> {
        self.keys.span(field)
    }
}

impl NamespaceSection {
    /// The settings at this place.
    ///
    /// # Errors
    ///
    /// The bytes of a mistake, and a message with its remedy.
    pub(super) fn layer(&self) -> Result<Layer, (Range<usize>, String)> {
        let decap = decap(self.decap.as_ref(), self.decap_from.as_ref())?;
        Ok(layer(
            self.mode,
            self.mirror,
            decap,
            &self.sources,
            &self.keys,
        ))
    }

    /// The bytes of a field in the section, or those of the section's name.
    pub(super) fn span(&self, field: KeyField) -> Range<usize> {
        self.keys.span(field).unwrap_or(self.name.span())
    }
}

impl KeysSection {
    fn span(&self, field: KeyField) -> Option<Range<usize>> {
        let source = self.source.as_ref().map(Spanned::span);
        match field {
            KeyField::Source => source,
            KeyField::Interval => self.interval.as_ref().map(Spanned::span).or(source),
            KeyField::Path => self.path.as_ref().map(Spanned::span),
        }
    }
}

/// Tunnels and sources that stand at one place of the file.
fn decap(
    tunnels: Option<&Spanned<Vec<Tunnel>>>,
    sources: Option<&Spanned<Vec<Prefix>>>,
) -> Result<Option<Decap>, (Range<usize>, String)> {
    let Some(at) = tunnels
        .map(Spanned::span)
        .or_else(|| sources.map(Spanned::span))
    else {
        return Ok(None);
    };
    let tunnels = tunnels.map_or(&[][..], |tunnels| tunnels.get_ref());
    let sources = sources.map_or(&[][..], |sources| sources.get_ref());
    Decap::new(tunnels, sources)
        .map(Some)
        .map_err(|error| (at, format!("decap and decap-from: {error}")))
}

fn layer(
    mode: Option<ModeChoice>,
    mirror: Option<Mirror>,
    decap: Option<Decap>,
    sources: &SourcesSection,
    keys: &KeysSection,
) -> Layer {
    Layer {
        mode,
        mirror,
        decap,
        max_sources: sources.max.map(Bounded::get),
        source_prefix_v4: sources.prefix_v4.map(Bounded::get),
        source_prefix_v6: sources.prefix_v6.map(Bounded::get),
        key_source: keys.source.as_ref().map(|source| *source.get_ref()),
        interval: keys.interval.as_ref().map(|interval| interval.get_ref().0),
        key_path: keys.path.as_ref().map(|path| path.get_ref().clone()),
        on_foreign_change: keys.on_foreign_change,
        // The section is one for the whole file.
        farm: None,
    }
}
