//! `tfo policy`.

mod show;

use std::{collections::BTreeMap, path::PathBuf};

use anyhow::bail;
use clap::{Args, Subcommand};
use tfo_common::{policy::Action, rate::Rate};
use tfo_userspace::{
    config::{self, MAX_LIMITED_SOURCES, Parsed, PortPolicySection},
    datapath::{self, Mirror, Namespace},
    kernel::sysctl,
    policy::{NoCookieError, Policy, PortPolicy},
};

use super::{JsonArgs, output::warn};

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Show what is in force
    Show(JsonArgs),
    /// Change rules and lists; what is not named stays as it is. The new policy comes into force as a whole
    Set(Box<SetArgs>),
    /// Remove the policy, or the rules of ports
    Clear {
        /// The rule of this port alone, where the default rule holds from then on; may be given several times
        #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
        ports: Vec<u16>,
    },
}

#[derive(Args)]
pub(super) struct SetArgs {
    /// Put the section `policy` of a configuration file in force, in place of all that is
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ports", "RuleArgs", "PolicyArgs"])]
    file: Option<PathBuf>,
    /// Change this port's rule instead of the default one; may be given several times. A port that has no
    /// rule yet starts from one that passes everything
    #[arg(long = "port", value_name = "PORT", value_parser = clap::value_parser!(u16).range(1..))]
    ports: Vec<u16>,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// Parts of a rule.
#[derive(Args)]
struct RuleArgs {
    /// What is done to SYNs with a valid cookie: pass, reissue, fallback or drop
    #[arg(long, value_name = "ACTION")]
    valid: Option<Parsed<Action>>,
    /// With a bad cookie
    #[arg(long, value_name = "ACTION")]
    bad: Option<Parsed<Action>>,
    /// To those that ask for a cookie: pass, fallback or drop
    #[arg(long, value_name = "ACTION")]
    request: Option<Parsed<Action>>,
    /// To those with data and no option: pass or drop
    #[arg(long, value_name = "ACTION")]
    data: Option<Parsed<Action>>,
    /// How many SYNs with a valid cookie may come from one source: 100/s, "100/s burst 500" or unlimited.
    /// Others fall back
    #[arg(long, value_name = "RATE")]
    valid_per_source: Option<Parsed<Rate>>,
    /// From all sources
    #[arg(long, value_name = "RATE")]
    valid_per_port: Option<Parsed<Rate>>,
    /// How many with a bad cookie may come from one source. Others are dropped
    #[arg(long, value_name = "RATE")]
    bad_per_source: Option<Parsed<Rate>>,
    /// From all sources
    #[arg(long, value_name = "RATE")]
    bad_per_port: Option<Parsed<Rate>>,
    /// How many that ask for a cookie may come from one source. Others fall back
    #[arg(long, value_name = "RATE")]
    request_per_source: Option<Parsed<Rate>>,
    /// From all sources
    #[arg(long, value_name = "RATE")]
    request_per_port: Option<Parsed<Rate>>,
    /// How many whose data would be taken may come from one source. Others fall back
    #[arg(long, value_name = "RATE")]
    data_per_source: Option<Parsed<Rate>>,
    /// From all sources
    #[arg(long, value_name = "RATE")]
    data_per_port: Option<Parsed<Rate>>,
    /// What is done to SYNs of sources on the deny list
    #[arg(long, value_name = "ACTION")]
    denied: Option<Parsed<Action>>,
    /// What is done in place of reissue and fallback where the listener takes data without a cookie: pass or drop
    #[arg(long, value_name = "ACTION")]
    no_cookie: Option<Parsed<Action>>,
    /// Count what would be done, and do nothing
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dry_run: Option<bool>,
}

/// What holds for all ports.
#[derive(Args)]
struct PolicyArgs {
    /// The file of sources for which no rule and no limit holds: a prefix on each line
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    /// The file of sources that are denied
    #[arg(long, value_name = "FILE")]
    deny: Option<PathBuf>,
    /// Most sources that limits remember
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=i64::from(MAX_LIMITED_SOURCES)))]
    max_sources: Option<u32>,
    /// Bits of an IPv4 source's address that limits go by
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=32))]
    prefix_v4: Option<u8>,
    /// Bits of an IPv6 source's address that limits go by
    #[arg(long, value_name = "BITS", value_parser = clap::value_parser!(u8).range(0..=128))]
    prefix_v6: Option<u8>,
}

pub(super) fn show(json: bool) -> anyhow::Result<()> {
    let policy = Namespace::current()?.policy().get()?;
    show::print(policy.as_ref(), json)
}

pub(super) async fn set(args: &SetArgs) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let change = namespace.policy().change()?;
    let policy = match &args.file {
        Some(path) => config::load_policy(path)?,
        None => args.over(change.before.clone().unwrap_or_default())?,
    };
    check_listeners(&policy)?;
    change.apply(Some(&policy))?;
    for interface in namespace.interfaces().await? {
        if interface.mirror == Mirror::Packet {
            warn(&format!(
                "{}: its mirror is packet, which sees no listener's own keys, nor which needs no cookie: \
                 `tfo attach --replace {0}` has it look",
                interface.label()
            ));
        }
    }
    warn_of_deaf_list(&policy);
    show::print(Some(&policy), false)
}

/// A deny list, and no rule that does anything to whom it names.
fn warn_of_deaf_list(policy: &Policy) {
    let mut rules = std::iter::once(&policy.default).chain(policy.ports.values());
    if !policy.lists.deny.is_empty() && rules.all(|rule| rule.denied == Action::Pass) {
        warn("every rule lets denied sources pass: --denied fallback or --denied drop");
    }
}

pub(super) fn clear(ports: &[u16]) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let change = namespace.policy().change()?;
    let policy = without(change.before.clone(), ports)?;
    change.apply(policy.as_ref())?;
    show::print(policy.as_ref(), false)
}

fn without(before: Option<Policy>, ports: &[u16]) -> anyhow::Result<Option<Policy>> {
    let Some(mut policy) = before.filter(|_| !ports.is_empty()) else {
        return Ok(None);
    };
    for port in ports {
        if policy.ports.remove(port).is_none() {
            bail!("port {port} has no rule of its own: `tfo policy show` lists those that have");
        }
    }
    // The rule that holds there now may not fit its listener.
    check_listeners(&policy)?;
    Ok(Some(policy))
}

/// Refuses a policy that rewrites options where a listener accepts data without a cookie. What cannot be read is not
/// checked: the data path leaves such SYNs as they are.
fn check_listeners(policy: &Policy) -> Result<(), NoCookieError> {
    if !policy.needs_cookies() {
        return Ok(());
    }
    let mode = sysctl::mode().unwrap_or(sysctl::Mode(0));
    policy.check_listeners(mode, &datapath::listeners().unwrap_or_default())
}

impl SetArgs {
    /// `before`, with what is said here.
    fn over(&self, mut before: Policy) -> anyhow::Result<Policy> {
        let rule = self.rule.section();
        let PolicyArgs {
            allow,
            deny,
            max_sources,
            prefix_v4,
            prefix_v6,
        } = &self.policy;
        let says = allow.is_some() || deny.is_some() || max_sources.is_some();
        let says = says || prefix_v4.is_some() || prefix_v6.is_some();
        if rule == PortPolicySection::default() && !says {
            bail!("nothing to set: name a rule's part, a list or a file (tfo policy set --help)");
        }
        if rule == PortPolicySection::default() && !self.ports.is_empty() {
            bail!(
                "--port goes with a part of its rule, such as --bad drop (tfo policy set --help)"
            );
        }
        let sources = &mut before.sources;
        sources.max = max_sources.unwrap_or(sources.max);
        sources.v4 = prefix_v4.unwrap_or(sources.v4);
        sources.v6 = prefix_v6.unwrap_or(sources.v6);
        before.lists = before.lists.with(allow.as_deref(), deny.as_deref())?;
        let over = |below: &PortPolicy| rule.over(below).map_err(anyhow::Error::msg);
        if self.ports.is_empty() {
            before.default = over(&before.default)?;
        }
        let mut ports: BTreeMap<_, _> = std::mem::take(&mut before.ports);
        for port in &self.ports {
            let below = ports.get(port).copied().unwrap_or_default();
            ports.insert(*port, over(&below)?);
        }
        Ok(Policy { ports, ..before })
    }
}

impl RuleArgs {
    fn section(&self) -> PortPolicySection {
        PortPolicySection {
            valid: self.valid,
            bad: self.bad,
            request: self.request,
            data: self.data,
            valid_per_source: self.valid_per_source,
            valid_per_port: self.valid_per_port,
            bad_per_source: self.bad_per_source,
            bad_per_port: self.bad_per_port,
            request_per_source: self.request_per_source,
            request_per_port: self.request_per_port,
            data_per_source: self.data_per_source,
            data_per_port: self.data_per_port,
            denied: self.denied,
            no_cookie: self.no_cookie,
            dry_run: self.dry_run,
        }
    }
}
