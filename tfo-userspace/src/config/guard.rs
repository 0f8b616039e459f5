//! A guard as a configuration file has it.

use std::{collections::BTreeMap, str::FromStr, time::Duration};

use serde::Deserialize;
use tfo_common::{guard::Mode, policy::Rate};
use toml::Spanned;

use crate::{
    config::interval,
    model::{Guard, PortGuard},
    policy::{SectionError, Word, by_port},
};

/// `[guard]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Section {
    /// SYN-ACKs that one source gets.
    pub replies: Option<Word<Rate>>,
    /// SYNs with a valid cookie that one source may send.
    pub proven: Option<Word<Rate>>,
    /// Ports without a section of their own.
    pub default: Option<Spanned<PortSection>>,
    /// Ports by number.
    pub port: BTreeMap<String, Spanned<PortSection>>,
}

/// `[guard.default]` or `[guard.port.N]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PortSection {
    /// Always, never, or while the port is flooded.
    pub mode: Option<Word<Mode>>,
    /// It is flooded where SYNs without proof come faster.
    pub above: Option<Word<Rate>>,
    /// How long it stays guarded after that.
    pub quiet: Option<Word<Duration>>,
}

impl FromStr for Word<Mode> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let mode = Mode::ALL.into_iter().find(|mode| mode.name() == text);
        mode.map(Self)
            .ok_or_else(|| format!("{text:?} is no mode: write off, on or auto"))
    }
}

impl FromStr for Word<Duration> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        interval(text).map(Self)
    }
}

impl PortSection {
    /// What is said here. A file says when a port is guarded, and nothing that would have no effect.
    fn rule(&self) -> Result<PortGuard, String> {
        let Some(Word(mode)) = self.mode else {
            return Err("it does not say when: add mode = \"auto\", \"on\" or \"off\"".into());
        };
        if mode != Mode::Auto && (self.above.is_some() || self.quiet.is_some()) {
            return Err(format!(
                "above and quiet say when a port comes to be guarded: they go with mode = \"auto\", not {:?}",
                mode.name()
            ));
        }
        let default = PortGuard::default();
        let above = self.above.map_or(default.above, |word| word.0);
        if above.is_unlimited() {
            return Err(
                "above = \"unlimited\" is never exceeded: give a rate, or mode = \"off\"".into(),
            );
        }
        Ok(PortGuard {
            mode,
            above,
            quiet: self.quiet.map_or(default.quiet, |word| word.0),
        })
    }
}

impl Section {
    /// The guard.
    ///
    /// # Errors
    ///
    /// [`SectionError`]
    pub fn guard(&self) -> Result<Guard, SectionError> {
        let (default, ports) = by_port(
            "guard",
            self.default.as_ref(),
            &self.port,
            PortSection::rule,
        )?;
        let below = Guard::default();
        let guard = Guard {
            replies: self.replies.map_or(below.replies, |word| word.0),
            proven: self.proven.map_or(below.proven, |word| word.0),
            default,
            ports,
        };
        if guard.is_empty() {
            return Err(SectionError {
                section: "guard".to_owned(),
                message: "it guards no port: add [guard.port.443] or [guard.default] with mode = \"auto\"".to_owned(),
                at: None,
            });
        }
        Ok(guard)
    }
}
