//! A policy as a configuration file has it.

use std::{collections::BTreeMap, ops::Range, path::PathBuf, str::FromStr};

use serde::Deserialize;
use tfo_common::policy::{Action, Class, Limit, Rate};
use toml::Spanned;

use super::ListError;
use crate::model::{LimitedSources, Lists, Policy, PortPolicy, parse_rate};

/// Most sources that limits can remember.
pub const MAX_SOURCES: u32 = 16_777_216;

/// `[policy]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct Section {
    /// Most sources that limits remember.
    pub max_sources: Option<u32>,
    /// Bits of an IPv4 source's prefix.
    pub prefix_v4: Option<u8>,
    /// Bits of an IPv6 source's prefix.
    pub prefix_v6: Option<u8>,
    /// The file of the allow list.
    pub allow: Option<PathBuf>,
    /// The file of the deny list.
    pub deny: Option<PathBuf>,
    /// Nothing is done anywhere, but counted.
    pub dry_run: bool,
    /// Ports without a section of their own.
    pub default: Option<Spanned<PortSection>>,
    /// Ports by number.
    pub port: BTreeMap<String, Spanned<PortSection>>,
}

/// `[policy.default]` or `[policy.port.N]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PortSection {
    /// What is done to SYNs with a valid cookie.
    pub valid: Option<Word<Action>>,
    /// With a bad one.
    pub bad: Option<Word<Action>>,
    /// To those that ask for one.
    pub request: Option<Word<Action>>,
    /// To those that have data, and no option.
    pub data: Option<Word<Action>>,
    /// How many may come, of one source and at the port.
    pub valid_per_source: Option<Word<Rate>>,
    /// As above.
    pub valid_per_port: Option<Word<Rate>>,
    /// As above.
    pub bad_per_source: Option<Word<Rate>>,
    /// As above.
    pub bad_per_port: Option<Word<Rate>>,
    /// As above.
    pub request_per_source: Option<Word<Rate>>,
    /// As above.
    pub request_per_port: Option<Word<Rate>>,
    /// As above, of all SYNs whose data would be taken.
    pub data_per_source: Option<Word<Rate>>,
    /// As above.
    pub data_per_port: Option<Word<Rate>>,
    /// What is done to sources on the deny list.
    pub denied: Option<Word<Action>>,
    /// What is done instead of a rewriting where the listener takes data without a cookie.
    pub no_cookie: Option<Word<Action>>,
    /// Nothing is done, but counted.
    pub dry_run: Option<bool>,
}

/// A value that is written as one word or a few.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(try_from = "String", bound = "Self: FromStr<Err = String>")]
pub struct Word<T>(pub T);

impl<T> TryFrom<String> for Word<T>
where
    Self: FromStr<Err = String>,
{
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

impl FromStr for Word<Rate> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        parse_rate(text).map(Self)
    }
}

impl FromStr for Word<Action> {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let action = Action::ALL.into_iter().find(|action| action.name() == text);
        action
            .map(Self)
            .ok_or_else(|| format!("{text:?} is no action: write pass, reissue, fallback or drop"))
    }
}

impl PortSection {
    /// What is said here, with `dry_run` where that is not said.
    ///
    /// # Errors
    ///
    /// What is wrong, and what would be right.
    pub fn policy(&self, dry_run: bool) -> Result<PortPolicy, String> {
        self.over(&PortPolicy {
            denied: Action::Fallback,
            dry_run,
            ..PortPolicy::default()
        })
    }

    /// `below`, but for what is said here.
    ///
    /// # Errors
    ///
    /// What is wrong, and what would be right.
    pub fn over(&self, below: &PortPolicy) -> Result<PortPolicy, String> {
        let action = |said: Option<Word<Action>>, below| said.map_or(below, |word| word.0);
        let rate = |said: Option<Word<Rate>>, below| said.map_or(below, |word| word.0);
        let limit = |source, port, below: Limit| Limit {
            source: rate(source, below.source),
            port: rate(port, below.port),
        };
        let policy = PortPolicy {
            actions: {
                let [valid, bad, request, data] = below.actions;
                [
                    action(self.valid, valid),
                    action(self.bad, bad),
                    action(self.request, request),
                    action(self.data, data),
                ]
            },
            limits: {
                let [valid, bad, request, data] = below.limits;
                [
                    limit(self.valid_per_source, self.valid_per_port, valid),
                    limit(self.bad_per_source, self.bad_per_port, bad),
                    limit(self.request_per_source, self.request_per_port, request),
                    limit(self.data_per_source, self.data_per_port, data),
                ]
            },
            denied: action(self.denied, below.denied),
            no_cookie: action(self.no_cookie, below.no_cookie),
            dry_run: self.dry_run.unwrap_or(below.dry_run),
        };
        check(&policy)?;
        Ok(policy)
    }
}

/// Refuses what could not be done.
fn check(policy: &PortPolicy) -> Result<(), String> {
    let action = |class: Class| policy.actions[class as usize];
    if action(Class::Request) == Action::Reissue {
        return Err(
            "request = \"reissue\": it is a request already; use pass, fallback or drop".into(),
        );
    }
    if matches!(action(Class::Data), Action::Reissue | Action::Fallback) {
        return Err(format!(
            "data = {:?}: such a SYN has no option to rewrite; use pass or drop",
            action(Class::Data).name()
        ));
    }
    if matches!(policy.no_cookie, Action::Reissue | Action::Fallback) {
        return Err(format!(
            "no-cookie = {:?}: it is what is done where nothing but a drop keeps data out; use pass or drop",
            policy.no_cookie.name()
        ));
    }
    Ok(())
}

/// Why a section was not taken.
#[derive(Debug, thiserror::Error)]
#[error("[{section}] {message}")]
pub struct SectionError {
    /// The section's name.
    pub(crate) section: String,
    /// What is wrong, and what would be right.
    pub(crate) message: String,
    /// Where it stands, if it is a part of the section that was asked.
    pub(crate) at: Option<Range<usize>>,
}

/// What `rule` makes of the sections `[NAME.default]` and `[NAME.port.N]`.
///
/// # Errors
///
/// [`SectionError`]
pub(crate) fn by_port<S, R>(
    name: &str,
    default: Option<&Spanned<S>>,
    ports: &BTreeMap<String, Spanned<S>>,
    rule: impl Fn(&S) -> Result<R, String>,
) -> Result<(Option<R>, BTreeMap<u16, R>), SectionError> {
    let wrong = |label: &str, section: &Spanned<S>, message| SectionError {
        section: format!("{name}.{label}"),
        message,
        at: Some(section.span()),
    };
    let default = match default {
        Some(section) => {
            let rule = rule(section.get_ref());
            Some(rule.map_err(|message| wrong("default", section, message))?)
        }
        None => None,
    };
    let mut rules = BTreeMap::new();
    for (number, section) in ports {
        let wrong = |message| wrong(&format!("port.{number}"), section, message);
        let port = number.parse().ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| wrong(format!("port {number:?} is not from 1 to 65535")))?;
        let rule = rule(section.get_ref()).map_err(wrong)?;
        if rules.insert(port, rule).is_some() {
            return Err(wrong(format!("port {port} has a section already")));
        }
    }
    Ok((default, rules))
}

impl Section {
    /// The policy, without the lists that [`Self::lists`] reads.
    ///
    /// # Errors
    ///
    /// [`SectionError`]
    pub fn rules(&self) -> Result<Policy, SectionError> {
        let own = |message| SectionError {
            section: "policy".to_owned(),
            message,
            at: None,
        };
        let sources = self.sources().map_err(own)?;
        let rule = |section: &PortSection| section.policy(self.dry_run);
        let (default, ports) = by_port("policy", self.default.as_ref(), &self.port, rule)?;
        let default = match default {
            Some(default) => default,
            None => rule(&PortSection::default()).map_err(own)?,
        };
        Ok(Policy {
            sources,
            default,
            ports,
            lists: Lists::default(),
        })
    }

    /// The lists that its files hold.
    ///
    /// # Errors
    ///
    /// [`ListError`]
    pub fn lists(&self) -> Result<Lists, ListError> {
        Lists::read(self.allow.as_deref(), self.deny.as_deref())
    }

    fn sources(&self) -> Result<LimitedSources, String> {
        let default = LimitedSources::default();
        let sources = LimitedSources {
            max: self.max_sources.unwrap_or(default.max),
            v4: self.prefix_v4.unwrap_or(default.v4),
            v6: self.prefix_v6.unwrap_or(default.v6),
        };
        if sources.v4 > 32 || sources.v6 > 128 {
            return Err("a prefix has at most 32 bits (v4) or 128 (v6)".into());
        }
        if !(1..=MAX_SOURCES).contains(&sources.max) {
            return Err(format!("max-sources is from 1 to {MAX_SOURCES}"));
        }
        Ok(sources)
    }
}
