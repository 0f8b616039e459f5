//! `tfo guard`.

mod show;

use std::{path::PathBuf, time::Duration};

use anyhow::bail;
use clap::{Args, Subcommand, ValueEnum};
use tfo_common::{guard::GuardMode, rate::Rate};
use tfo_userspace::{
    config::{Parsed, parse_interval},
    datapath::{
        GuardChange, GuardError, LeftOut, Namespace, NamespaceError, OnUnfit, unchallenged_tunnels,
    },
    farm,
    guard::{Obstacle, fitness},
    keys::Secret,
    model::{EdgeGuard, EdgeService, Guard, PortGuard, Prefix},
};
use tokio::signal::unix::{Signal, SignalKind, signal};

use self::show::print;
use super::{
    arguments::JsonArgs,
    exit::Misuse,
    number,
    output::{follow_job, warn},
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
        /// Remove the rules of these addresses behind this host, at --port or at all ports; may be given several times
        #[arg(long = "vip", value_name = "PREFIX")]
        vips: Vec<Prefix>,
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
    /// Guard --port of these addresses behind this host, an address or a prefix: this host is their router, and the hosts
    /// that have them take the answers, under the same --secret-file; may be given several times
    #[arg(long = "vip", value_name = "PREFIX")]
    vips: Vec<Prefix>,
    /// With --vip: greatest MSS on the way to those hosts, for tunnels and smaller MTUs, in bytes
    /// [default: unchanged, at first that of the route to the client]
    #[arg(long, value_name = "BYTES", value_parser = number::number::<u16>(u64::from(EdgeGuard::MIN_MSS)..=65_535))]
    mss: Option<u16>,
    /// With --vip: window scale that those hosts advertise, as `tfo guard show` has it there [default: unchanged, at first this
    /// host's]
    #[arg(long, value_name = "SHIFT", value_parser = number::number::<u8>(0..=u64::from(EdgeGuard::MAX_SCALE)))]
    window_scale: Option<u8>,
    /// Secret that other hosts' guards have, too, in a file of 64 hexadecimal digits that its owner alone may read: each
    /// takes the answers to the others' challenges [default: unchanged, at first this host's own secrets]
    #[arg(long, value_name = "FILE", conflicts_with = "own_secrets")]
    secret_file: Option<PathBuf>,
    /// Go back to secrets of this host's own
    #[arg(long)]
    own_secrets: bool,
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
    /// Guard also ports and interfaces on which the guard is known to break connections, and services of which no host takes
    /// the answers to challenges
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
        GuardCommand::Clear { ports, vips } => clear(ports, vips).await,
    }
}

fn show(json: bool) -> anyhow::Result<()> {
    print(Namespace::current()?.guard().state()?.as_ref(), json)
}

async fn set(args: &SetArgs) -> anyhow::Result<()> {
    args.check()?;
    let namespace = Namespace::current()?;
    let change = GuardChange::begin(&namespace);
    // Without options, what is in force is checked and attached again.
    let nothing = match &change {
        Ok(change) => change.before.is_none(),
        Err(error) => matches!(
            error,
            GuardError::Namespace(NamespaceError::NothingAttached(_))
        ),
    };
    if args.sets_nothing() && nothing {
        bail!(Misuse::new(
            "guard set",
            "nothing to set: give on, off or auto, or a rate",
        ));
    }
    let change = change?;
    let mut guard = args.over(change.before.clone().unwrap_or_default());
    if let Some(path) = &args.secret_file {
        guard.secret = Some(Secret::read(path)?.challenge_secret());
    }
    check_edges(&guard)?;
    let secret_before = change.before.as_ref().and_then(|it| it.secret.as_ref());
    // What is known is known of hosts with that one.
    if guard.secret.as_ref() == secret_before {
        check_hosts(args, &namespace, &guard)?;
    }
    check(&guard, args.force)?;
    let _held = hold_signals()?;
    warn_of(&change.apply(Some(&guard), OnUnfit::of(args.force)).await?);
    follow_job(&namespace).await?;
    for each in unchallenged_tunnels(&namespace).await? {
        warn(&each.to_string());
    }
    print(namespace.guard().state()?.as_ref(), false)
}

/// From now on what ends this process waits for it: half a change would leave the guard off.
fn hold_signals() -> anyhow::Result<[Signal; 3]> {
    let kinds = [
        SignalKind::interrupt(),
        SignalKind::terminate(),
        SignalKind::hangup(),
    ];
    let [interrupt, terminate, hangup] = kinds.map(signal);
    Ok([interrupt?, terminate?, hangup?])
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

/// Refuses an edge whose challenges nobody takes, and terms that nobody keeps.
fn check_edges(guard: &Guard) -> anyhow::Result<()> {
    for (service, edge) in &guard.edges {
        edge.check(service).map_err(anyhow::Error::msg)?;
    }
    if guard.edges.is_empty() || guard.secret.is_some() {
        return Ok(());
    }
    bail!(
        "the hosts behind this one take its challenges under a secret that all of them have: put one into a file there \
         (openssl rand -hex 32), run `tfo guard set off --port PORT --secret-file FILE` on each, then give --secret-file \
         FILE here, too"
    )
}

/// Refuses to challenge for hosts none of which takes the answers, as the controller knows from its farm. What it knows is of
/// the window scale in force: another one is tried.
fn check_hosts(args: &SetArgs, namespace: &Namespace, guard: &Guard) -> anyhow::Result<()> {
    let report = farm::published(namespace);
    let Some(report) = report.filter(|_| !args.force && args.window_scale.is_none()) else {
        return Ok(());
    };
    for (service, edge) in &guard.edges {
        let named = args.vips.contains(&service.vip) && args.ports.contains(&service.port);
        let verdict = report.edges.get(service);
        let verdict = verdict.filter(|it| named && it.taken == Some(false));
        if let Some(verdict) = verdict.filter(|_| edge.rule.mode != GuardMode::Off) {
            bail!(
                "{service}: no host of the farm takes the answers to its challenges, so each client would be reset: {}: {}; \
                 --force guards it nevertheless",
                verdict.refusals(),
                verdict.remedy(service.port)
            );
        }
    }
    Ok(())
}

async fn clear(ports: &[u16], vips: &[Prefix]) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let change = GuardChange::begin(&namespace)?;
    let guard = without(change.before.clone(), ports, vips)?;
    let _held = hold_signals()?;
    warn_of(&change.apply(guard.as_ref(), OnUnfit::Keep).await?);
    follow_job(&namespace).await?;
    print(namespace.guard().state()?.as_ref(), false)
}

fn warn_of(unguarded: &[LeftOut]) {
    for each in unguarded {
        warn(&format!("not guarded: {each}"));
    }
}

fn without(before: Option<Guard>, ports: &[u16], vips: &[Prefix]) -> anyhow::Result<Option<Guard>> {
    let named = !ports.is_empty() || !vips.is_empty();
    let Some(mut guard) = before.filter(|_| named) else {
        return Ok(None);
    };
    for vip in vips {
        let count = guard.edges.len();
        let goes = |service: &EdgeService| {
            service.vip == *vip && (ports.is_empty() || ports.contains(&service.port))
        };
        guard.edges.retain(|service, _| !goes(service));
        if guard.edges.len() == count {
            bail!("{vip} has no such rule: `tfo guard show` lists those that there are");
        }
    }
    if !vips.is_empty() {
        return Ok(Some(guard));
    }
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
        self.mode.is_some() || self.above.is_some() || self.quiet.is_some() || self.has_terms()
    }

    /// An option is of what challenges for hosts behind this one state.
    fn has_terms(&self) -> bool {
        self.mss.is_some() || self.window_scale.is_some()
    }

    fn sets_nothing(&self) -> bool {
        let of_all = self.replies.is_some() || self.proven.is_some();
        let of_secrets = self.secret_file.is_some() || self.own_secrets;
        !self.is_of_port() && !of_all && !of_secrets && !self.force
    }

    /// Refuses a `--port` that has nothing to go with.
    fn check(&self) -> anyhow::Result<()> {
        if !self.is_of_port() && !self.ports.is_empty() {
            bail!(Misuse::new(
                "guard set",
                "--port goes with on, off, auto, --above or --quiet",
            ));
        }
        if !self.vips.is_empty() && self.ports.is_empty() {
            bail!(Misuse::new("guard set", "--vip goes with --port"));
        }
        if self.vips.is_empty() && self.has_terms() {
            bail!(Misuse::new(
                "guard set",
                "--mss and --window-scale go with --vip"
            ));
        }
        Ok(())
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
        if self.own_secrets {
            before.secret = None;
        }
        if self.ports.is_empty() && of_port {
            before.default = Some(over(before.default));
        }
        for vip in &self.vips {
            for port in &self.ports {
                let service = EdgeService {
                    vip: *vip,
                    port: *port,
                };
                let below = before.edges.get(&service).copied();
                let below = below.unwrap_or_default();
                let edge = EdgeGuard {
                    rule: over(Some(below.rule)),
                    mss: self.mss.or(below.mss),
                    window_scale: self.window_scale.or(below.window_scale),
                    ..below
                };
                before.edges.insert(service, edge);
            }
        }
        if !self.vips.is_empty() {
            return before;
        }
        for port in &self.ports {
            let rule = over(before.ports.get(port).copied());
            before.ports.insert(*port, rule);
        }
        before
    }
}
