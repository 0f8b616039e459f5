//! `tfo policy`.

mod show;
mod withheld;

use std::{collections::BTreeMap, path::PathBuf, time::Duration};

use anyhow::bail;
use clap::{
    Args, Subcommand,
    builder::{PossibleValuesParser, TypedValueParser},
};
use tfo_common::{
    policy::{Action, once::OnceBy},
    rate::Rate,
};
use tfo_userspace::{
    config::{self, MAX_LIMITED_SOURCES, Parsed, PortPolicySection, Withhold},
    datapath::{self, Namespace},
    kernel::sysctl,
    model::{Mirror, OnceMemory, Policy, PortPolicy},
    policy::{CookieLives, NoCookieError},
};

use super::{
    arguments::JsonArgs,
    exit::Misuse,
    number::{self, number},
    output::{follow_job, warn},
};

#[derive(Subcommand)]
pub(super) enum PolicyCommand {
    /// Show the policy in force
    Show(JsonArgs),
    /// Change rules and lists, all in one step. Parts that are not named stay as they are; a new rule passes every SYN
    /// and has no limits
    Set(Box<SetArgs>),
    /// Remove the policy, or the rules of ports
    Clear {
        /// Remove the rule of this port alone, which then has the default rule; may be given several times
        /// [default: the whole policy]
        #[arg(long = "port", value_name = "PORT", value_parser = number::port)]
        ports: Vec<u16>,
    },
    /// List the sources from which cookies are withheld, and what their handshakes showed
    Withheld(withheld::WithheldArgs),
}

#[derive(Args)]
pub(super) struct SetArgs {
    /// Replace the whole policy by the section `[policy]` of this configuration file
    #[arg(long, value_name = "FILE", conflicts_with_all = ["ports", "RuleArgs", "PolicyArgs"])]
    file: Option<PathBuf>,
    /// Change this port's rule instead of the default rule; may be given several times. A port without a rule starts
    /// from one that passes every SYN
    #[arg(long = "port", value_name = "PORT", value_parser = number::port)]
    ports: Vec<u16>,
    #[command(flatten)]
    rule: RuleArgs,
    #[command(flatten)]
    policy: PolicyArgs,
}

/// A parser of these actions.
fn actions(actions: &'static [Action]) -> impl TypedValueParser<Value = Parsed<Action>> {
    let names = actions.iter().map(|action| action.name());
    PossibleValuesParser::new(names).try_map(|text| text.parse())
}

fn any_action() -> impl TypedValueParser<Value = Parsed<Action>> {
    actions(&Action::WITHOUT_MEMORY)
}

fn once_by() -> impl TypedValueParser<Value = Parsed<OnceBy>> {
    let names = OnceBy::ALL.map(OnceBy::name);
    PossibleValuesParser::new(names).try_map(|text| text.parse())
}

/// Parts of a rule.
#[derive(Args)]
struct RuleArgs {
    /// Action for SYNs with a valid cookie: reissue makes the SYN a cookie request, fallback an ordinary handshake; once
    /// lets the kernel take data that came for the first time, and reissues for a copy
    #[arg(long, value_name = "ACTION", value_parser = actions(&Action::ALL))]
    valid: Option<Parsed<Action>>,
    /// Action for SYNs with a bad cookie
    #[arg(long, value_name = "ACTION", value_parser = any_action())]
    bad: Option<Parsed<Action>>,
    /// Action for cookie requests
    #[arg(long, value_name = "ACTION", value_parser = actions(&[Action::Pass, Action::Fallback, Action::Drop]))]
    request: Option<Parsed<Action>>,
    /// Action for SYNs with data and no Fast Open option, which there is nothing to rewrite in
    #[arg(long, value_name = "ACTION", value_parser = actions(&[Action::Pass, Action::Drop]))]
    data: Option<Parsed<Action>>,
    /// Limit of SYNs with a valid cookie from one source, per second: 100/s, "100/s burst 500" or unlimited; SYNs over
    /// the limit fall back
    #[arg(long, value_name = "RATE")]
    valid_per_source: Option<Parsed<Rate>>,
    /// Limit of SYNs with a valid cookie from all sources; the others fall back
    #[arg(long, value_name = "RATE")]
    valid_per_port: Option<Parsed<Rate>>,
    /// Limit of SYNs with a bad cookie from one source; the others fall back
    #[arg(long, value_name = "RATE")]
    bad_per_source: Option<Parsed<Rate>>,
    /// Limit of SYNs with a bad cookie from all sources; the others fall back
    #[arg(long, value_name = "RATE")]
    bad_per_port: Option<Parsed<Rate>>,
    /// Limit of cookie requests from one source; the others fall back
    #[arg(long, value_name = "RATE")]
    request_per_source: Option<Parsed<Rate>>,
    /// Limit of cookie requests from all sources; the others fall back
    #[arg(long, value_name = "RATE")]
    request_per_port: Option<Parsed<Rate>>,
    /// Limit of SYNs whose data would be taken, from one source; the others fall back
    #[arg(long, value_name = "RATE")]
    data_per_source: Option<Parsed<Rate>>,
    /// Limit of SYNs whose data would be taken, from all sources; the others fall back
    #[arg(long, value_name = "RATE")]
    data_per_port: Option<Parsed<Rate>>,
    /// Action for SYNs of sources on the deny list
    #[arg(long, value_name = "ACTION", value_parser = any_action())]
    denied: Option<Parsed<Action>>,
    /// Action instead of reissue, fallback and once if the listener takes data without a cookie
    #[arg(long, value_name = "ACTION", value_parser = actions(&[Action::Pass, Action::Drop]))]
    no_cookie: Option<Parsed<Action>>,
    /// What makes two SYNs the same to once: duplicate, a copy of the segment (addresses, ports, sequence number, first
    /// bytes of data); or content, the client's address and the first 64 bytes of data [default: unchanged, at first
    /// duplicate]
    #[arg(long, value_name = "BY", value_parser = once_by())]
    once_by: Option<Parsed<OnceBy>>,
    /// Withhold cookies for TIME, 1d for example, from sources on whose path Fast Open does not work: their cookie requests
    /// fall back; off ends it
    #[arg(long, value_name = "TIME", value_parser = |text: &str| text.parse::<Parsed<Withhold>>())]
    withhold: Option<Parsed<Withhold>>,
    /// Count what the rule would do, but let every SYN pass; --dry-run=false ends it
    #[arg(long, value_name = "BOOL", num_args = 0..=1, require_equals = true, default_missing_value = "true")]
    dry_run: Option<bool>,
}

/// Parts of the policy that hold for all ports.
#[derive(Args, Default, PartialEq, Eq)]
struct PolicyArgs {
    /// A file of source prefixes, one per line, to which no rule and no limit applies
    #[arg(long, value_name = "FILE")]
    allow: Option<PathBuf>,
    /// A file of source prefixes, one per line, to which `--denied` applies
    #[arg(long, value_name = "FILE")]
    deny: Option<PathBuf>,
    /// Number of source prefixes that limits per source keep track of [default: unchanged, at first 65536]
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..=u64::from(MAX_LIMITED_SOURCES)))]
    max_sources: Option<u32>,
    /// Prefix length of an IPv4 source for limits, 0 to 32 bits [default: unchanged, at first 32]
    #[arg(long, value_name = "BITS", value_parser = number::<u8>(0..=32))]
    prefix_v4: Option<u8>,
    /// Prefix length of an IPv6 source for limits, 0 to 128 bits [default: unchanged, at first 64]
    #[arg(long, value_name = "BITS", value_parser = number::<u8>(0..=128))]
    prefix_v6: Option<u8>,
    /// Time for which once remembers a SYN: 30m, 1h or 2d. Another one makes it forget [default: unchanged, at first 1h]
    #[arg(long, value_name = "TIME", value_parser = |text: &str| text.parse::<Parsed<Duration>>())]
    once_lifetime: Option<Parsed<Duration>>,
    /// Number of SYNs that once remembers in that time, 16 bytes each. Another one makes it forget [default: unchanged, at
    /// first 262144]
    #[arg(long, value_name = "N", value_parser = number::<u32>(1..=u64::from(OnceMemory::MAX)))]
    once_capacity: Option<u32>,
}

pub(super) async fn run(command: &PolicyCommand) -> anyhow::Result<()> {
    match command {
        PolicyCommand::Show(args) => show(args.json),
        PolicyCommand::Set(args) => set(args).await,
        PolicyCommand::Clear { ports } => clear(ports).await,
        PolicyCommand::Withheld(args) => withheld::run(args),
    }
}

fn show(json: bool) -> anyhow::Result<()> {
    let policy = Namespace::current()?.policy().get()?;
    show::print(policy.as_ref(), json)
}

async fn set(args: &SetArgs) -> anyhow::Result<()> {
    args.check()?;
    let namespace = Namespace::current()?;
    let change = namespace.policy().change()?;
    let policy = match &args.file {
        Some(path) => config::load_policy(path)?,
        None => args.over(change.before.clone().unwrap_or_default())?,
    };
    check_listeners(&policy)?;
    change.apply(Some(&policy))?;
    follow_job(&namespace).await?;
    for interface in namespace.interfaces().await? {
        if interface.mirror == Mirror::Packet {
            warn(&format!(
                "{}: its mirror is packet, which knows neither a listener's own keys nor whether it needs cookies: \
                 `tfo attach --replace {0}` makes it exact",
                interface.label()
            ));
        }
    }
    warn_of_deaf_list(&policy);
    if let Some(gap) = policy.once_gap(CookieLives::in_force(&namespace)?) {
        warn(&gap);
    }
    show::print(Some(&policy), false)
}

/// Warns of a deny list that no rule acts on.
fn warn_of_deaf_list(policy: &Policy) {
    let mut rules = policy.port_policies();
    if !policy.lists.deny.is_empty() && rules.all(|rule| rule.denied == Action::Pass) {
        warn("every rule lets denied sources pass: --denied fallback or --denied drop");
    }
}

async fn clear(ports: &[u16]) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let change = namespace.policy().change()?;
    let policy = without(change.before.clone(), ports)?;
    change.apply(policy.as_ref())?;
    follow_job(&namespace).await?;
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
    // The default rule may not suit the listener of such a port.
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
    /// Refuses options that set nothing.
    fn check(&self) -> anyhow::Result<()> {
        if self.file.is_some() {
            return Ok(());
        }
        let rule = self.rule.section();
        let sets_rule = rule != PortPolicySection::default();
        if !sets_rule && !self.ports.is_empty() {
            bail!(Misuse::new(
                "policy set",
                "--port goes with a part of its rule, such as --bad drop",
            ));
        }
        if !sets_rule && self.policy == PolicyArgs::default() {
            bail!(Misuse::new(
                "policy set",
                "nothing to set: give a part of a rule, a list or a file",
            ));
        }
        Ok(())
    }

    /// `before`, changed as the options say.
    fn over(&self, mut before: Policy) -> anyhow::Result<Policy> {
        let rule = self.rule.section();
        let PolicyArgs {
            allow,
            deny,
            max_sources,
            prefix_v4,
            prefix_v6,
            once_lifetime,
            once_capacity,
        } = &self.policy;
        let sources = &mut before.sources;
        sources.max = max_sources.unwrap_or(sources.max);
        sources.v4 = prefix_v4.unwrap_or(sources.v4);
        sources.v6 = prefix_v6.unwrap_or(sources.v6);
        let once = &mut before.once;
        once.lifetime = once_lifetime.map_or(once.lifetime, |time| time.0);
        *once = once.with_capacity(once_capacity.unwrap_or(once.capacity));
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
            once_by: self.once_by,
            withhold: self.withhold,
            dry_run: self.dry_run,
        }
    }
}
