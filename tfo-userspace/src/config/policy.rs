//! The section `[policy]`.

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use serde::Deserialize;
use tfo_common::{
    policy::{Action, Limit, once::OnceBy},
    rate::Rate,
};
use toml::Spanned;

use super::{
    ports::{SectionError, rules_by_port},
    values::{Parsed, Withhold},
};
use crate::{
    model::{LimitedSources, Lists, OnceMemory, Policy, PortPolicy},
    policy::ListError,
};

/// Upper bound of `max-sources`.
pub const MAX_LIMITED_SOURCES: u32 = 16_777_216;

/// `[policy]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct PolicySection {
    /// Most sources that limits keep apart.
    max_sources: Option<u32>,
    /// Prefix length by which limits tell IPv4 sources apart.
    prefix_v4: Option<u8>,
    /// Prefix length by which limits tell IPv6 sources apart.
    prefix_v6: Option<u8>,
    /// Least time for which `once` remembers a SYN.
    once_lifetime: Option<Parsed<Duration>>,
    /// SYNs that `once` remembers in that time.
    once_capacity: Option<u32>,
    /// The file of the allow list.
    allow: Option<PathBuf>,
    /// The file of the deny list.
    deny: Option<PathBuf>,
    /// The default of the ports' `dry-run`.
    dry_run: bool,
    /// `[policy.default]`: ports without a section of their own.
    default: Option<Spanned<PortPolicySection>>,
    /// `[policy.port.N]`, by N.
    port: BTreeMap<String, Spanned<PortPolicySection>>,
}

/// `[policy.default]` or `[policy.port.N]`, or the flags of `tfo policy set`: those parts of a rule that are given.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub struct PortPolicySection {
    /// Action for SYNs with a valid cookie.
    pub valid: Option<Parsed<Action>>,
    /// Action for SYNs with an invalid cookie.
    pub bad: Option<Parsed<Action>>,
    /// Action for SYNs that request a cookie.
    pub request: Option<Parsed<Action>>,
    /// Action for SYNs with data and without the option.
    pub data: Option<Parsed<Action>>,
    /// Limit of SYNs with a valid cookie from one source.
    pub valid_per_source: Option<Parsed<Rate>>,
    /// Limit of SYNs with a valid cookie at the port.
    pub valid_per_port: Option<Parsed<Rate>>,
    /// Limit of SYNs with an invalid cookie from one source.
    pub bad_per_source: Option<Parsed<Rate>>,
    /// Limit of SYNs with an invalid cookie at the port.
    pub bad_per_port: Option<Parsed<Rate>>,
    /// Limit of cookie requests from one source.
    pub request_per_source: Option<Parsed<Rate>>,
    /// Limit of cookie requests at the port.
    pub request_per_port: Option<Parsed<Rate>>,
    /// Limit of SYNs from one source whose data the kernel would accept.
    pub data_per_source: Option<Parsed<Rate>>,
    /// Limit of SYNs at the port whose data the kernel would accept.
    pub data_per_port: Option<Parsed<Rate>>,
    /// Action for sources on the deny list.
    pub denied: Option<Parsed<Action>>,
    /// Action in place of `reissue` and `fallback` where the listener accepts data without a cookie.
    pub no_cookie: Option<Parsed<Action>>,
    /// The properties by which two SYNs are the same to the action `once`.
    pub once_by: Option<Parsed<OnceBy>>,
    /// The time for which cookies are withheld from sources that waste them.
    pub withhold: Option<Parsed<Withhold>>,
    /// Count actions without carrying them out.
    pub dry_run: Option<bool>,
}

impl PortPolicySection {
    /// The rule that this section describes. `dry_run` applies where the section does not set it.
    fn policy(&self, dry_run: bool) -> Result<PortPolicy, String> {
        self.over(&PortPolicy {
            denied: Action::Fallback,
            dry_run,
            ..PortPolicy::default()
        })
    }

    /// `base` with the parts that are given here.
    ///
    /// # Errors
    ///
    /// [`PortPolicy::check`]: the mistake and its remedy.
    pub fn over(&self, base: &PortPolicy) -> Result<PortPolicy, String> {
        let action = |given: Option<Parsed<Action>>, base| given.map_or(base, |action| action.0);
        let rate = |given: Option<Parsed<Rate>>, base| given.map_or(base, |rate| rate.0);
        let limit = |source, port, base: Limit| Limit {
            source: rate(source, base.source),
            port: rate(port, base.port),
        };
        let policy = PortPolicy {
            actions: {
                let [valid, bad, request, data] = base.actions;
                [
                    action(self.valid, valid),
                    action(self.bad, bad),
                    action(self.request, request),
                    action(self.data, data),
                ]
            },
            limits: {
                let [valid, bad, request, data] = base.limits;
                [
                    limit(self.valid_per_source, self.valid_per_port, valid),
                    limit(self.bad_per_source, self.bad_per_port, bad),
                    limit(self.request_per_source, self.request_per_port, request),
                    limit(self.data_per_source, self.data_per_port, data),
                ]
            },
            denied: action(self.denied, base.denied),
            no_cookie: action(self.no_cookie, base.no_cookie),
            once_by: self.once_by.map_or(base.once_by, |by| by.0),
            withhold: self.withhold.map_or(base.withhold, |time| time.0.0),
            dry_run: self.dry_run.unwrap_or(base.dry_run),
        };
        policy.check()?;
        Ok(policy)
    }
}

impl PolicySection {
    /// The policy without its lists; see [`Self::lists`].
    pub(super) fn rules(&self) -> Result<Policy, SectionError> {
        let own = |message| SectionError {
            section: "policy".to_owned(),
            message,
            at: None,
        };
        let sources = self.sources().map_err(own)?;
        let once = self.once().map_err(own)?;
        let rule = |section: &PortPolicySection| section.policy(self.dry_run);
        let (default, ports) = rules_by_port("policy", self.default.as_ref(), &self.port, rule)?;
        let default = match default {
            Some(default) => default,
            None => rule(&PortPolicySection::default()).map_err(own)?,
        };
        Ok(Policy {
            sources,
            default,
            ports,
            lists: Lists::default(),
            once,
        })
    }

    /// Reads the files of the lists.
    pub(super) fn lists(&self) -> Result<Lists, ListError> {
        Lists::read(self.allow.as_deref(), self.deny.as_deref())
    }

    fn once(&self) -> Result<OnceMemory, String> {
        let default = OnceMemory::default();
        let capacity = self.once_capacity.unwrap_or(default.capacity);
        if !(1..=OnceMemory::MAX).contains(&capacity) {
            return Err(format!("once-capacity is from 1 to {}", OnceMemory::MAX));
        }
        let lifetime = self.once_lifetime.map_or(default.lifetime, |time| time.0);
        Ok(OnceMemory {
            lifetime,
            ..default
        }
        .with_capacity(capacity))
    }

    fn sources(&self) -> Result<LimitedSources, String> {
        let default = LimitedSources::default();
        let sources = LimitedSources {
            max: self.max_sources.unwrap_or(default.max),
            v4: self.prefix_v4.unwrap_or(default.v4),
            v6: self.prefix_v6.unwrap_or(default.v6),
        };
        if sources.v4 > 32 || sources.v6 > 128 {
            return Err("a prefix has at most 32 bits (prefix-v4) or 128 (prefix-v6)".into());
        }
        if !(1..=MAX_LIMITED_SOURCES).contains(&sources.max) {
            return Err(format!("max-sources is from 1 to {MAX_LIMITED_SOURCES}"));
        }
        Ok(sources)
    }
}
