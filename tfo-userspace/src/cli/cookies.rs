//! `tfo cookies`.

use std::{fmt::Write as _, path::PathBuf, time::Duration};

use anyhow::{Context as _, bail};
use clap::{Args, Subcommand};
use serde_json::{Value, json};
use tfo_common::fastopen::own::{OwnCookies, OwnSecretSource};
use tfo_userspace::{
    config::parse_interval,
    datapath::{AttachedInterface, ControllerLock, Namespace, OwnCookieChange},
    keys::{OwnSecrets, Secret, own_secrets_left, ring_now},
    model::{CookieService, OwnCookieRules, OwnRulesError, exact_time},
};

use super::{
    arguments::JsonArgs,
    number,
    output::{print, print_json, warn},
    time,
};

#[derive(Subcommand)]
pub(super) enum CookiesCommand {
    /// Show the rules of own cookies, and the interfaces that issue them
    Show(JsonArgs),
    /// Have the data path issue and take its own cookies, which it translates to the kernel's; parts that are not named stay
    /// as they are
    Set(SetArgs),
    /// Have clients get the kernel's cookies again; a client with an own one loses one round trip, once
    Clear,
}

#[derive(Args)]
pub(super) struct SetArgs {
    /// Time for which one secret issues cookies, from 10s on: a number with s, m, h or d [default: unchanged, at first 1d]
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    interval: Option<Duration>,
    /// Time for which a cookie is good, 1 to 100 whole intervals [default: unchanged, at first 14d]
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    lifetime: Option<Duration>,
    /// Bits of the IPv4 prefix whose addresses share cookies, 8 to 32: clients that change their address inside it keep Fast
    /// Open, and their neighbours can use their cookies [default: unchanged, at first 32]
    #[arg(long, value_name = "BITS", value_parser = number::number::<u8>(8..=32))]
    client_prefix_v4: Option<u8>,
    /// Bits of the IPv6 prefix, 64 to 128 [default: unchanged, at first 128]
    #[arg(long, value_name = "BITS", value_parser = number::number::<u8>(64..=128))]
    client_prefix_v6: Option<u8>,
    /// Have all server addresses and hosts with this service's name take each other's cookies, with --secret-file; `-` has
    /// each server address be a service of its own [default: unchanged, at first -]
    #[arg(long, value_name = "NAME", value_parser = service, allow_hyphen_values = true)]
    service: Option<ServiceArg>,
    /// Derive the secrets from the secret in this file of mode 0600 and the clock, so that hosts share them and a reboot
    /// keeps them: 64 hexadecimal digits, or 32 bytes [default: random secrets]
    #[arg(long, value_name = "FILE")]
    secret_file: Option<PathBuf>,
}

/// The value of `--service`.
#[derive(Clone)]
struct ServiceArg(Option<CookieService>);

fn service(text: &str) -> Result<ServiceArg, OwnRulesError> {
    match text {
        "-" => Ok(ServiceArg(None)),
        name => Ok(ServiceArg(Some(name.parse()?))),
    }
}

pub(super) async fn run(command: &CookiesCommand) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    match command {
        CookiesCommand::Show(args) => show(&namespace, args.json).await,
        CookiesCommand::Set(args) => set(&namespace, args).await,
        CookiesCommand::Clear => {
            OwnCookieChange::begin(&namespace)?.apply(None).await?;
            show(&namespace, false).await
        }
    }
}

async fn set(namespace: &Namespace, args: &SetArgs) -> anyhow::Result<()> {
    let secret = args.secret_file.as_deref().map(Secret::read).transpose()?;
    let change = OwnCookieChange::begin(namespace)?;
    let before = change.before.clone();
    match before.as_deref().map(source) {
        Some(OwnSecretSource::Secret) if secret.is_none() => bail!(
            "the secrets in force are derived from a file: name it again by --secret-file, or `tfo cookies clear` first, for random ones"
        ),
        Some(given @ (OwnSecretSource::File | OwnSecretSource::Etcd)) => bail!(
            "the secrets in force are those of [cookies] source = \"{}\": change the rules there, or `tfo cookies clear` first",
            given.name()
        ),
        _ => {}
    }
    let rules = args.over(
        before
            .as_deref()
            .map(OwnCookieRules::of)
            .unwrap_or_default(),
    );
    rules.check()?;
    if rules.service.is_some() && secret.is_none() {
        warn(
            "a service whose secrets are random has this host alone: --secret-file shares them with others",
        );
    }
    let secrets = OwnSecrets::of(secret.as_ref());
    let cookies = ring_now(&rules, secrets, before.as_deref()).context("getrandom(2)")?;
    for each in change.apply(Some(&cookies)).await? {
        warn(&format!("no own cookies: {each}"));
    }
    // A controller's source decides about the keys.
    if ControllerLock::of(namespace).is_none() && namespace.keys().add_backup()? {
        print(
            "the kernel had no backup key, by which cookies are renewed: it has a random one now\n",
        )?;
    }
    show(namespace, false).await
}

impl SetArgs {
    /// `before`, changed as the options say.
    fn over(&self, before: OwnCookieRules) -> OwnCookieRules {
        OwnCookieRules {
            interval: self.interval.unwrap_or(before.interval),
            lifetime: self.lifetime.unwrap_or(before.lifetime),
            client_v4: self.client_prefix_v4.unwrap_or(before.client_v4),
            client_v6: self.client_prefix_v6.unwrap_or(before.client_v6),
            service: match &self.service {
                Some(ServiceArg(service)) => service.clone(),
                None => before.service,
            },
        }
    }
}

async fn show(namespace: &Namespace, json: bool) -> anyhow::Result<()> {
    let in_force = namespace.own_cookies().get()?;
    let interfaces = namespace.interfaces().await?;
    let labels = |issuing: bool| -> Vec<String> {
        let own = namespace.own_cookies();
        let those = interfaces
            .iter()
            .filter(|each| own.is_issuing(each.index) == issuing);
        those.map(AttachedInterface::label).collect()
    };
    let (issuing, others) = (labels(true), labels(false));
    match (in_force.as_deref(), json) {
        (Some(cookies), true) => print_json(&to_json(cookies, &issuing)),
        (None, true) => print_json(&json!({ "in_force": false })),
        (Some(cookies), false) => print(&text(cookies, &issuing, &others)),
        (None, false) => print("no own cookies: clients get the kernel's\n"),
    }
}

fn text(cookies: &OwnCookies, issuing: &[String], others: &[String]) -> String {
    let rules = OwnCookieRules::of(cookies);
    let service = rules.service.as_ref().map_or_else(
        || "each server address is one of its own".to_owned(),
        ToString::to_string,
    );
    let left = own_secrets_left(cookies).map_or_else(
        || "its source gives others".to_owned(),
        |left| format!("{} from now, without `tfo run`", time::age(left)),
    );
    let issued = if cookies.issues == 0 {
        "no interface: not all hosts of the farm take them yet".to_owned()
    } else {
        issuing.join(", ")
    };
    let mut text = format!(
        "interval    {}\nlifetime    {}\nclients     /{} and /{} share cookies\nservice     {service}\nsecrets     {}\nlast until  {left}\nissued on   {issued}\n",
        exact_time(rules.interval),
        exact_time(rules.lifetime),
        rules.client_v4,
        rules.client_v6,
        source(cookies).name(),
    );
    if !others.is_empty() {
        let _ = writeln!(text, "not on      {}", others.join(", "));
    }
    text
}

const fn source(cookies: &OwnCookies) -> OwnSecretSource {
    OwnSecretSource::from_number(cookies.source)
}

fn to_json(cookies: &OwnCookies, issuing: &[String]) -> Value {
    let rules = OwnCookieRules::of(cookies);
    json!({
        "in_force": true,
        "interval_seconds": rules.interval.as_secs(),
        "lifetime_seconds": rules.lifetime.as_secs(),
        "client_prefix_v4": rules.client_v4,
        "client_prefix_v6": rules.client_v6,
        "service": rules.service.as_ref().map(ToString::to_string),
        "secrets": source(cookies).name(),
        "slot": cookies.slot,
        "seconds_left": own_secrets_left(cookies).map(|left| left.as_secs()),
        "issues": cookies.issues != 0,
        "issued_on": issuing,
    })
}
