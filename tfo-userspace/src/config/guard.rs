//! The section `[guard]`.

use std::{collections::BTreeMap, time::Duration};

use serde::Deserialize;
use tfo_common::{guard::GuardMode, rate::Rate};
use toml::Spanned;

use super::{
    ports::{SectionError, rules_by_port},
    values::Parsed,
};
use crate::model::{Guard, PortGuard};

/// `[guard]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct GuardSection {
    /// SYN-ACKs that the guard sends to one source.
    replies: Option<Parsed<Rate>>,
    /// SYNs with a valid cookie that one source may send unchallenged.
    proven: Option<Parsed<Rate>>,
    /// Guard also where the guard is known to break connections.
    pub(super) force: bool,
    /// `[guard.default]`: ports without a section of their own.
    default: Option<Spanned<PortGuardSection>>,
    /// `[guard.port.N]`, by N.
    port: BTreeMap<String, Spanned<PortGuardSection>>,
}

/// `[guard.default]` or `[guard.port.N]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
struct PortGuardSection {
    /// Always, never, or while the port is flooded.
    mode: Option<Parsed<GuardMode>>,
    /// The rate of unproven SYNs above which the port is flooded.
    above: Option<Parsed<Rate>>,
    /// The time for which the port stays guarded after the flood.
    quiet: Option<Parsed<Duration>>,
}

impl PortGuardSection {
    /// The rule, or the mistake and its remedy. Parts that would have no effect are refused.
    fn rule(&self) -> Result<PortGuard, String> {
        let Some(Parsed(mode)) = self.mode else {
            return Err(
                "it does not say when to guard: add mode = \"auto\", \"on\" or \"off\"".into(),
            );
        };
        if mode != GuardMode::Auto && (self.above.is_some() || self.quiet.is_some()) {
            return Err(format!(
                "above and quiet apply to mode = \"auto\", not to {:?}: remove them, or change the mode",
                mode.name()
            ));
        }
        let default = PortGuard::default();
        let above = self.above.map_or(default.above, |rate| rate.0);
        if above.is_unlimited() {
            return Err(
                "above = \"unlimited\" is never exceeded: give a rate, or mode = \"off\"".into(),
            );
        }
        Ok(PortGuard {
            mode,
            above,
            quiet: self.quiet.map_or(default.quiet, |time| time.0),
        })
    }
}

impl GuardSection {
    pub(super) fn guard(&self) -> Result<Guard, SectionError> {
        let (default, ports) = rules_by_port(
            "guard",
            self.default.as_ref(),
            &self.port,
            PortGuardSection::rule,
        )?;
        let base = Guard::default();
        let guard = Guard {
            replies: self.replies.map_or(base.replies, |rate| rate.0),
            proven: self.proven.map_or(base.proven, |rate| rate.0),
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
