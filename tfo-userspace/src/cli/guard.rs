//! `tfo guard`.

use std::{fmt::Write as _, time::Duration};

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use serde_json::{Value, json};
use tfo_common::{guard::GuardMode, rate::Rate};
use tfo_userspace::{
    config::{Parsed, parse_interval},
    datapath::{GuardChange, GuardState, LeftOut, Namespace, OnUnfit},
    guard::fitness::{self, Obstacle},
    model::{Guard, PortGuard, PortState, format_rate},
};

use super::{
    JsonArgs, number,
    output::{self, follow_job, print_json, rate_json, table, warn},
    usage,
};

#[derive(Subcommand)]
pub(super) enum GuardCommand {
    /// Show the rule and the state of each port
    Show(JsonArgs),
    /// Guard ports, or change their rules; parts that are not named stay as they are
    Set(SetArgs),
    /// Remove the guard, or the rules of ports. ACKs that answer a challenge are still accepted for 3 seconds
    Clear {
        /// Remove the rule of this port alone; may be given several times [default: the whole guard]
        #[arg(long = "port", value_name = "PORT", value_parser = number::port)]
        ports: Vec<u16>,
    },
}

#[derive(Args)]
pub(super) struct SetArgs {
    /// Condition under which the port is guarded [default: unchanged, at first off]
    #[arg(value_enum)]
    mode: Option<ModeArg>,
    /// Change this port's rule instead of the default rule; may be given several times
    #[arg(long = "port", value_name = "PORT", value_parser = number::port)]
    ports: Vec<u16>,
    /// With auto: SYNs per second without a valid cookie that switch the guard on, such as 1000/s; half as many keep
    /// it on [default: unchanged, at first 1000/s]
    #[arg(long, value_name = "RATE")]
    above: Option<Parsed<Rate>>,
    /// With auto: time below that rate after which the guard switches off: a number with s, m, h or d
    /// [default: unchanged, at first 30s]
    #[arg(long, value_name = "TIME", value_parser = parse_interval)]
    quiet: Option<Duration>,
    /// Limit of challenges to one source (an IPv4 address or an IPv6 /64) at all ports, per second: 10/s or
    /// "10/s burst 20"; SYNs over it go on to the kernel [default: unchanged, at first unlimited]
    #[arg(long, value_name = "RATE")]
    replies: Option<Parsed<Rate>>,
    /// Limit of SYNs with a valid cookie from one source, per second; the others are challenged
    /// [default: unchanged, at first 10000/s]
    #[arg(long, value_name = "RATE")]
    proven: Option<Parsed<Rate>>,
    /// Guard also ports and interfaces on which the guard is known to break connections
    #[arg(long)]
    force: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum ModeArg {
    /// Never
    Off,
    /// Always
    On,
    /// While the port is flooded: see --above and --quiet
    Auto,
}

impl From<ModeArg> for GuardMode {
    fn from(mode: ModeArg) -> Self {
        match mode {
            ModeArg::Off => Self::Off,
            ModeArg::On => Self::On,
            ModeArg::Auto => Self::Auto,
        }
    }
}

pub(super) async fn run(command: &GuardCommand) -> anyhow::Result<()> {
    match command {
        GuardCommand::Show(args) => show(args.json),
        GuardCommand::Set(args) => set(args).await,
        GuardCommand::Clear { ports } => clear(ports).await,
    }
}

fn show(json: bool) -> anyhow::Result<()> {
    print(Namespace::current()?.guard().state()?.as_ref(), json)
}

async fn set(args: &SetArgs) -> anyhow::Result<()> {
    args.check();
    let namespace = Namespace::current()?;
    let change = GuardChange::begin(&namespace)?;
    // Without options, what is in force is checked and attached again.
    if args.sets_nothing() && change.before.is_none() {
        usage(
            "guard set",
            "nothing to set: give on, off or auto, or a rate",
        );
    }
    let guard = args.over(change.before.clone().unwrap_or_default());
    check(&guard, args.force)?;
    warn_of(&change.apply(Some(&guard), OnUnfit::of(args.force)).await?);
    follow_job(&namespace).await?;
    print(namespace.guard().state()?.as_ref(), false)
}

/// Refuses a guard that would break connections here, and warns of what else is against it.
fn check(guard: &Guard, force: bool) -> anyhow::Result<()> {
    let (breaks, others): (Vec<_>, Vec<_>) = fitness::obstacles(guard)
        .into_iter()
        .partition(Obstacle::refuses);
    if !breaks.is_empty() && !force {
        let texts: Vec<_> = breaks.iter().map(Obstacle::text).collect();
        bail!(texts.join("\n"));
    }
    for each in breaks.iter().chain(&others) {
        warn(&each.text());
    }
    Ok(())
}

async fn clear(ports: &[u16]) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let change = GuardChange::begin(&namespace)?;
    let guard = without(change.before.clone(), ports)?;
    warn_of(&change.apply(guard.as_ref(), OnUnfit::Keep).await?);
    follow_job(&namespace).await?;
    print(namespace.guard().state()?.as_ref(), false)
}

fn warn_of(unguarded: &[LeftOut]) {
    for each in unguarded {
        warn(&format!("not guarded: {each}"));
    }
}

fn without(before: Option<Guard>, ports: &[u16]) -> anyhow::Result<Option<Guard>> {
    let Some(mut guard) = before.filter(|_| !ports.is_empty()) else {
        return Ok(None);
    };
    for port in ports {
        if guard.ports.remove(port).is_none() {
            bail!("port {port} has no rule of its own: `tfo guard show` lists those that have");
        }
    }
    Ok(Some(guard))
}

impl SetArgs {
    /// An option is of a port's rule.
    fn is_of_port(&self) -> bool {
        self.mode.is_some() || self.above.is_some() || self.quiet.is_some()
    }

    fn sets_nothing(&self) -> bool {
        !self.is_of_port() && self.replies.is_none() && self.proven.is_none() && !self.force
    }

    /// Ends the process where `--port` has nothing to go with.
    fn check(&self) {
        if !self.is_of_port() && !self.ports.is_empty() {
            usage(
                "guard set",
                "--port goes with on, off, auto, --above or --quiet",
            );
        }
    }

    /// `before`, changed as the options say.
    fn over(&self, mut before: Guard) -> Guard {
        let of_port = self.is_of_port();
        let rate = |said: Option<Parsed<Rate>>, below| said.map_or(below, |word| word.0);
        before.replies = rate(self.replies, before.replies);
        before.proven = rate(self.proven, before.proven);
        let over = |below: Option<PortGuard>| {
            let below = below.unwrap_or_default();
            PortGuard {
                mode: self.mode.map_or(below.mode, GuardMode::from),
                above: rate(self.above, below.above),
                quiet: self.quiet.unwrap_or(below.quiet),
            }
        };
        if self.ports.is_empty() && of_port {
            before.default = Some(over(before.default));
        }
        for port in &self.ports {
            let rule = over(before.ports.get(port).copied());
            before.ports.insert(*port, rule);
        }
        before
    }
}

fn print(state: Option<&GuardState>, json: bool) -> anyhow::Result<()> {
    match (state, json) {
        (Some(state), true) => print_json(&to_json(state)),
        (None, true) => print_json(&json!({ "in_force": false })),
        (Some(state), false) => output::print(&text(state)),
        (None, false) => output::print("no guard: every SYN goes to the kernel\n"),
    }
}

fn text(state: &GuardState) -> String {
    let heads = [
        "port",
        "mode",
        "guarded",
        "for",
        "switched on",
        "above",
        "quiet",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    rows.extend(state.ports.iter().map(|port| {
        let PortState {
            rule,
            on,
            since,
            switches,
            ..
        } = port;
        let auto = rule.mode == GuardMode::Auto;
        let of_auto = |text: String| if auto { text } else { "-".to_owned() };
        vec![
            name(port.port),
            rule.mode.name().to_owned(),
            if *on { "yes" } else { "no" }.to_owned(),
            match since {
                Some(since) if *on => format!("{} s", since.as_secs()),
                _ => "-".to_owned(),
            },
            switches.to_string(),
            of_auto(format_rate(rule.above)),
            of_auto(format!("{} s", rule.quiet.as_secs_f64())),
        ]
    }));
    let mut text = table(&rows);
    let Guard {
        replies, proven, ..
    } = &state.guard;
    let _ = writeln!(
        text,
        "\none source: {} SYN-ACKs, {} SYNs with a valid cookie",
        format_rate(*replies),
        format_rate(*proven)
    );
    text
}

fn name(port: u16) -> String {
    match port {
        0 => "default".to_owned(),
        port => port.to_string(),
    }
}

fn to_json(state: &GuardState) -> Value {
    let ports = state.ports.iter().map(|port| {
        json!({
            "port": (port.port != 0).then_some(port.port),
            "mode": port.rule.mode.name(),
            "on": port.on,
            "since_seconds": port.since.map(|since| since.as_secs_f64()),
            "switched_on": port.switches,
            "above": rate_json(port.rule.above),
            "quiet_seconds": port.rule.quiet.as_secs_f64(),
        })
    });
    json!({
        "in_force": true,
        "replies": rate_json(state.guard.replies),
        "proven": rate_json(state.guard.proven),
        "ports": ports.collect::<Vec<_>>(),
    })
}
