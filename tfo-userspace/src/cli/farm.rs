//! `tfo farm`.

mod guard;

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::{Args, Subcommand};
use tfo_userspace::{
    config,
    farm::{FarmClient, FarmStatus, KeyOrigin, LEADER_TIMEOUT, MemberStatus, Phase, RequestKind},
    kernel::sysctl,
};

use super::{
    exit::FOUND,
    output::{print, print_json, table, warn},
};

/// Time between two readings of the farm's state while it rotates.
const LOOK: Duration = Duration::from_millis(200);
/// Time that a rotation has to begin before the command returns.
const BEGIN: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct FarmArgs {
    /// Configuration file with the section `[farm]`
    #[arg(short, long, value_name = "FILE", default_value = "/etc/tfo/tfo.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: FarmCommand,
}

#[derive(Subcommand)]
enum FarmCommand {
    /// Show the farm's phase and keys, each host (alive, leader, acknowledged step, clock skew), who takes the answers to
    /// an edge's challenges, and values in etcd that no host of the farm wrote. Exits with status 3 if a host is not
    /// alive, was left behind or issues another key, or if no host takes the answers for a service
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Rotate the farm's keys, and wait until all hosts issue the new key. The rotation begins once the key that it
    /// retires has been accepted for half an interval
    Rotate {
        /// Begin at once; cookies of the key before the current one are refused from then on
        #[arg(long)]
        now: bool,
    },
    /// Replace leaked keys on all hosts at once; every cookie that clients hold is refused
    Revoke {
        /// Confirm; without it, revoke only prints the consequences
        #[arg(long)]
        yes: bool,
    },
    /// Create the farm's document in etcd, from the state that this host has stored, else from its kernel's keys,
    /// else with a new key; store it on this host, which admits the others. Run it on a host of the farm
    Init {
        /// Replace the document if there is one
        #[arg(long)]
        replace: bool,
    },
    /// Remove a host that will not come back, so that rotations no longer wait for it
    Forget {
        /// The host's name, as `tfo farm status` shows it
        #[arg(value_name = "HOST")]
        host: String,
    },
}

pub(super) async fn run(args: &FarmArgs) -> anyhow::Result<ExitCode> {
    let farm = config::load_farm(&args.config)?;
    let mut control = FarmClient::connect(&farm).await?;
    match &args.command {
        FarmCommand::Status { json } => return status(&mut control, *json).await,
        FarmCommand::Rotate { now } => rotate(&mut control, *now).await?,
        FarmCommand::Revoke { yes } => revoke(&mut control, *yes).await?,
        FarmCommand::Init { replace } => init(&mut control, &args.config, *replace).await?,
        FarmCommand::Forget { host } => forget(&mut control, host).await?,
    }
    Ok(ExitCode::SUCCESS)
}

async fn status(control: &mut FarmClient, json: bool) -> anyhow::Result<ExitCode> {
    let status = control.status().await?;
    let hosts = &status.hosts;
    let well = |host: &&_| is_well(host, &status);
    let all_well = hosts.iter().filter(well).count() == hosts.len();
    if json {
        print_json(&serde_json::to_value(&status)?)?;
    } else {
        print(&describe(&status))?;
    }
    Ok(if all_well {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FOUND)
    })
}

fn is_well(host: &MemberStatus, status: &FarmStatus) -> bool {
    let other_key = host.differs && status.document.phase == Phase::Steady;
    let well = host.alive && !host.left_behind && !other_key && host.record.error.is_none();
    well && guard::is_taken(host)
}

fn describe(status: &FarmStatus) -> String {
    let document = &status.document;
    let backup = match (&document.other, document.phase) {
        (None, _) => String::new(),
        (Some(next), Phase::Stage) => format!(", next {next}"),
        (Some(before), _) => format!(", before {before}"),
    };
    let mut text = format!(
        "{}: {}, current key {}{backup}, written by {}\n",
        status.prefix,
        document.position(),
        document.current,
        document.writer
    );
    text += &own_cookies(status);
    if let Some(request) = &status.request {
        text += &format!("asked for: {}\n", name(request));
    }
    let heads = ["host", "version", "step", "key", "skew", ""];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for host in &status.hosts {
        let record = &host.record;
        let mut remarks = Vec::new();
        if host.leads {
            remarks.push("leads".to_owned());
        }
        if host.left_behind {
            remarks.push("left behind: if it serves, it refuses cookies".to_owned());
        } else if host.joins {
            remarks.push("asks to be admitted".to_owned());
        } else if !host.acknowledged {
            remarks.push("not acknowledged yet".to_owned());
        }
        if !host.alive {
            remarks.push("not alive: its kernel keeps the keys that it has".to_owned());
        }
        if host.differs {
            remarks.push("issues another key".to_owned());
        }
        if any_takes_own(status) && document.own_cookies.is_none() {
            remarks.push(match &record.own_cookies {
                Some(rules) => format!("takes own cookies by rules {rules}"),
                None => "takes no own cookies".to_owned(),
            });
        }
        if host.clock_off && guard::has_part(host) {
            remarks.push("its clock is too far off to take answers to challenges".to_owned());
        }
        remarks.extend(record.error.clone());
        rows.push(vec![
            host.name.clone(),
            record.version.clone(),
            record
                .step
                .map_or("-".to_owned(), |step| format!("{step}/{}", status.step)),
            record.primary.clone().unwrap_or("-".to_owned()),
            record
                .skew
                .map_or("-".to_owned(), |skew| format!("{skew:+.1} s")),
            remarks.join("; "),
        ]);
    }
    text += &table(&rows);
    text += &guard::describe(status);
    if status.ignored_count > 0 {
        text += &format!(
            "ignored: {} values in etcd that no host of this farm wrote for this state of it; find out who did, and `etcdctl del` them:\n",
            status.ignored_count
        );
        for value in &status.ignored {
            text += &format!("  {:?}: {}\n", value.key, value.error);
        }
    }
    text
}

fn any_takes_own(status: &FarmStatus) -> bool {
    status
        .hosts
        .iter()
        .any(|host| host.record.own_cookies.is_some())
}

/// Returns the line about hosts' own cookies; empty where no host takes any.
fn own_cookies(status: &FarmStatus) -> String {
    let document = &status.document;
    match (&document.own_cookies, &document.secret) {
        (Some(rules), Some(secret)) => {
            format!("own cookies: issued, by rules {rules}, latest secret {secret}\n")
        }
        _ if any_takes_own(status) => {
            "own cookies: none issued until all hosts take them by the same rules\n".to_owned()
        }
        _ => String::new(),
    }
}

fn name(request: &RequestKind) -> String {
    match request {
        RequestKind::Rotate => {
            "a rotation, once the key that it retires has been accepted for half an interval"
                .to_owned()
        }
        RequestKind::RotateNow => "a rotation at once".to_owned(),
        RequestKind::Revoke => "revocation".to_owned(),
        RequestKind::Forget(host) => format!("to forget {host}"),
    }
}

async fn rotate(control: &mut FarmClient, now: bool) -> anyhow::Result<()> {
    let before = control.status().await?;
    if now {
        begin(control, RequestKind::RotateNow, before.clone()).await?;
    } else {
        let request = control.request(RequestKind::Rotate, &before).await?;
        let begun = |status: &FarmStatus| request.is_fulfilled(status);
        if wait(control, BEGIN, begun).await?.is_none() {
            return print(
                "requested: it begins once the key that it retires has been accepted for half an interval, or at once with --now\n",
            );
        }
    }
    follow(control, before.document.epoch).await
}

async fn revoke(control: &mut FarmClient, yes: bool) -> anyhow::Result<()> {
    let before = control.status().await?;
    let away: Vec<_> = before.hosts.iter().filter(|host| !host.alive).collect();
    let away: Vec<_> = away.iter().map(|host| host.name.as_str()).collect();
    print(&format!(
        "revoking the keys of {}, epoch {}:\n\
         - every cookie that a client holds is refused once: that connection takes one round trip more, and\n  \
           TCPFastOpenPassiveFail rises by one; it comes with a new cookie\n\
         - until all {} hosts have the new key, some refuse what others issue: a second at most where etcd is well\n",
        before.prefix,
        before.document.epoch,
        before.hosts.len()
    ))?;
    if !away.is_empty() {
        print(&format!(
            "- not alive, so these hosts keep the leaked keys: {}\n",
            away.join(", ")
        ))?;
    }
    if !yes {
        bail!("nothing is revoked: to confirm, say --yes");
    }
    let epoch = before.document.epoch;
    begin(control, RequestKind::Revoke, before).await?;
    follow(control, epoch).await
}

async fn forget(control: &mut FarmClient, host: &str) -> anyhow::Result<()> {
    let before = control.status().await?;
    let document = &before.document;
    if !document.members.contains_key(host) && !document.left.contains(host) {
        bail!("{host} is not one of the farm's hosts: `tfo farm status` shows them");
    }
    begin(control, RequestKind::Forget(host.to_owned()), before).await?;
    print(&format!(
        "{host}: removed; rotations no longer wait for it\n"
    ))
}

/// Requests something that begins at once, and waits until it has. A request is for one state of the farm, and
/// whoever writes to etcd may remove it: it is made again where it no longer stands.
async fn begin(
    control: &mut FarmClient,
    kind: RequestKind,
    mut status: FarmStatus,
) -> anyhow::Result<()> {
    let start = Instant::now();
    let mut request = control.request(kind.clone(), &status).await?;
    loop {
        let settled = |status: &FarmStatus| request.is_fulfilled(status) || !request.stands(status);
        let left = LEADER_TIMEOUT.saturating_sub(start.elapsed());
        let prefix = status.prefix;
        let Some(now) = wait(control, left, settled).await? else {
            bail!(
                "{prefix}: no host began within {} s, and the request stands: `tfo farm status` shows the leader and the hosts that it waits for",
                LEADER_TIMEOUT.as_secs()
            );
        };
        if request.is_fulfilled(&now) {
            return Ok(());
        }
        if start.elapsed() > LEADER_TIMEOUT {
            bail!(
                "{prefix}: nothing began within {} s: someone removes the request from etcd; see who writes below {prefix}",
                LEADER_TIMEOUT.as_secs()
            );
        }
        status = now;
        tokio::time::sleep(LOOK).await;
        request = control.request(kind.clone(), &status).await?;
    }
}

/// Waits until all hosts issue the key of a later epoch; warns of the hosts that it waits for.
async fn follow(control: &mut FarmClient, before: u64) -> anyhow::Result<()> {
    let start = Instant::now();
    loop {
        let after = |status: &FarmStatus| status.document.epoch > before && status.is_settled();
        if let Some(status) = wait(control, BEGIN, after).await? {
            let left = status.hosts.iter().filter(|host| host.left_behind).count();
            print(&format!(
                "{}: all of {} hosts issue {} after {:.1} s\n",
                status.document.position(),
                status.hosts.len() - left,
                status.document.current,
                start.elapsed().as_secs_f32()
            ))?;
            if left > 0 {
                warn(&format!(
                    "{left} hosts were left behind: `tfo farm status` names them"
                ));
            }
            return Ok(());
        }
        let status = control.status().await?;
        let late = status.hosts.iter().filter(|host| !host.acknowledged);
        let late: Vec<_> = late.map(|host| host.name.as_str()).collect();
        warn(&format!(
            "{}: still waiting for {}",
            status.document.position(),
            if late.is_empty() {
                "the leader".to_owned()
            } else {
                late.join(", ")
            }
        ));
    }
}

/// Reads the farm's state until it is as `wanted`; `None` if that takes longer than `limit`.
async fn wait(
    control: &mut FarmClient,
    limit: Duration,
    wanted: impl Fn(&FarmStatus) -> bool,
) -> anyhow::Result<Option<FarmStatus>> {
    let start = Instant::now();
    loop {
        let status = control.status().await?;
        if wanted(&status) {
            return Ok(Some(status));
        }
        if start.elapsed() > limit {
            return Ok(None);
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn init(control: &mut FarmClient, config: &Path, replace: bool) -> anyhow::Result<()> {
    let kernel = sysctl::key()?;
    let Some((document, origin)) = control.init(kernel.as_ref(), replace).await? else {
        let status = control.status().await;
        let what = status.map_or_else(
            |error| error.to_string(),
            |it| it.document.position().to_string(),
        );
        bail!(
            "the farm of {} exists ({what}): --replace puts another document in its place",
            config.display()
        );
    };
    let origin = match origin {
        KeyOrigin::Stored => "what this host has stored",
        KeyOrigin::Kernel => "the keys of this host's kernel",
        KeyOrigin::New => "a new key",
    };
    print(&format!(
        "{}: founded with {origin}, {}\n",
        document.position(),
        document.current
    ))
}
