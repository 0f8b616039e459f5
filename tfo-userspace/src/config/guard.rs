//! The section `[guard]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;
use tfo_common::{guard::GuardMode, rate::Rate};
use toml::Spanned;

use super::{
    ports::{SectionError, rules_by_port},
    values::Parsed,
};
use crate::model::{EdgeGuard, EdgeService, Guard, PortGuard};

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
    /// The file of the secret that other hosts' guards have, too.
    pub(super) secret_file: Option<PathBuf>,
    /// `[guard.default]`: ports without a section of their own.
    default: Option<Spanned<PortGuardSection>>,
    /// `[guard.port.N]`, by N.
    port: BTreeMap<String, Spanned<PortGuardSection>>,
    /// `[[guard.edge]]`: services behind this host.
    edge: Vec<Spanned<EdgeSection>>,
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

/// `[[guard.edge]]`.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
struct EdgeSection {
    /// The addresses of the service.
    vip: String,
    /// Its port.
    port: u16,
    /// As in [`PortGuardSection`].
    mode: Option<Parsed<GuardMode>>,
    above: Option<Parsed<Rate>>,
    quiet: Option<Parsed<Duration>>,
    /// The greatest MSS on the way to the hosts behind.
    mss: Option<u16>,
    /// The window scale that they advertise.
    window_scale: Option<u8>,
}

impl EdgeSection {
    /// The service and its rule, or the mistake and its remedy.
    fn rule(&self) -> Result<(EdgeService, EdgeGuard), String> {
        let service = EdgeService {
            vip: self.vip.parse()?,
            port: self.port,
        };
        let rule = PortGuardSection {
            mode: self.mode,
            above: self.above,
            quiet: self.quiet,
        };
        let guard = EdgeGuard {
            rule: rule.rule()?,
            mss: self.mss,
            window_scale: self.window_scale,
            ..EdgeGuard::default()
        };
        guard.check(&service)?;
        Ok((service, guard))
    }
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
            edges: self.edges()?,
            secret: None,
        };
        if !guard.edges.is_empty() && self.secret_file.is_none() {
            return Err(SectionError {
                section: "guard".to_owned(),
                message: "[[guard.edge]] needs the secret of the hosts behind: add secret-file = \"/etc/tfo/guard.secret\", here and there".to_owned(),
                at: None,
            });
        }
        if guard.is_empty() {
            return Err(SectionError {
                section: "guard".to_owned(),
                message: "it guards no port: add [guard.port.443], [guard.default] or [[guard.edge]] with mode = \"auto\"".to_owned(),
                at: None,
            });
        }
        Ok(guard)
    }

    fn edges(&self) -> Result<BTreeMap<EdgeService, EdgeGuard>, SectionError> {
        let mut edges = BTreeMap::new();
        for section in &self.edge {
            let wrong = |message| SectionError {
                section: "guard.edge".to_owned(),
                message,
                at: Some(section.span()),
            };
            let (service, guard) = section.get_ref().rule().map_err(wrong)?;
            if edges.insert(service, guard).is_some() {
                return Err(wrong(format!("{service} has a section already")));
            }
        }
        Ok(edges)
    }
}
