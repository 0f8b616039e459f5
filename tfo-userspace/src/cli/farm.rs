//! `tfo farm`.

use std::{
    path::{Path, PathBuf},
    process::ExitCode,
    time::{Duration, Instant},
};

use anyhow::bail;
use clap::{Args, Subcommand};
use tfo_userspace::{
    config,
    farm::{FarmClient, FarmStatus, KeyOrigin, LEADER_TIMEOUT, MemberStatus, Phase, Request},
    kernel::sysctl,
};

use super::{
    FOUND,
    output::{print, print_json, table, warn},
};

/// How often the farm is looked at while it rotates.
const LOOK: Duration = Duration::from_millis(200);
/// How long a rotation that may have to wait is waited for.
const BEGIN: Duration = Duration::from_secs(5);

#[derive(Args)]
pub(super) struct FarmArgs {
    /// The configuration file, of which the section `[farm]` is read
    #[arg(short, long, value_name = "FILE", default_value = "/etc/tfo/tfo.toml")]
    config: PathBuf,
    #[command(subcommand)]
    command: FarmCommand,
}

#[derive(Subcommand)]
enum FarmCommand {
    /// Show how far the farm has come, and each host: whether it is alive, leads, has acknowledged, how wrong
    /// its clock is. The status is 3 where a host is not alive, was left behind or has another key
    Status {
        /// Print one JSON object
        #[arg(long)]
        json: bool,
    },
    /// Have the farm rotate, and wait until all hosts issue the new key. It begins when the key that is
    /// retired for it has been accepted for half an interval
    Rotate {
        /// Begin at once: cookies of the key before the present one are refused from then on
        #[arg(long)]
        now: bool,
    },
    /// Replace keys that have leaked, on all hosts at once; all cookies that clients hold are refused
    Revoke {
        /// That is what is wanted
        #[arg(long)]
        yes: bool,
    },
    /// Found the farm: with what this host has stored of it, else with the keys of its kernel, else with new
    /// ones
    Init {
        /// Also where a document stands there
        #[arg(long)]
        replace: bool,
    },
    /// Have rotations wait for a host no more that will not come back
    Forget {
        /// The host
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
        FarmCommand::Forget { host } => {
            if !control.forget(host).await? {
                bail!("{host} is not one of the farm's hosts: `tfo farm status` shows them");
            }
            print(&format!("{host}: rotations wait for it no more\n"))?;
        }
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
    host.alive && !host.left_behind && !other_key && host.record.error.is_none()
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
    if let Some(request) = status.request {
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
            remarks.push("left behind: where it serves, it refuses cookies".to_owned());
        } else if !host.acknowledged {
            remarks.push("has yet to acknowledge".to_owned());
        }
        if !host.alive {
            remarks.push("not heard of: its kernel keeps the keys that it has".to_owned());
        }
        if host.differs {
            remarks.push("issues another key".to_owned());
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
    text + &table(&rows)
}

const fn name(request: Request) -> &'static str {
    match request {
        Request::Rotate => {
            "a rotation, once the key that it retires has been accepted for half an interval"
        }
        Request::RotateNow => "a rotation at once",
        Request::Revoke => "revocation",
    }
}

async fn rotate(control: &mut FarmClient, now: bool) -> anyhow::Result<()> {
    let before = control.status().await?;
    if now {
        begin(control, &before.prefix, Request::RotateNow).await?;
    } else {
        control.request(Request::Rotate).await?;
        if wait(control, BEGIN, is_taken_up).await?.is_none() {
            return print(
                "asked for: it begins when the key that it retires has been accepted for half an interval, or at once with --now\n",
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
            "- not heard of, and so left with the keys that leaked: {}\n",
            away.join(", ")
        ))?;
    }
    if !yes {
        bail!("nothing is revoked yet: say --yes");
    }
    begin(control, &before.prefix, Request::Revoke).await?;
    follow(control, before.document.epoch).await
}

/// Asks for what is to begin at once, and waits until it has.
async fn begin(control: &mut FarmClient, prefix: &str, request: Request) -> anyhow::Result<()> {
    control.request(request).await?;
    if wait(control, LEADER_TIMEOUT, is_taken_up).await?.is_none() {
        bail!(
            "{prefix}: nobody began within {} s, and the request stands: `tfo farm status` shows whether a host leads, and whom it waits for",
            LEADER_TIMEOUT.as_secs()
        );
    }
    Ok(())
}

const fn is_taken_up(status: &FarmStatus) -> bool {
    status.request.is_none()
}

/// Waits until all hosts issue the key of a later epoch, and says whom it is waiting for.
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

/// Looks at the farm until it is as `wanted`; `None` where it is not in time.
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
