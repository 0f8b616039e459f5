//! `tfo run`: attached and rotating, in the foreground.

use std::{
    io::{self, IsTerminal as _},
    time::Duration,
};

use anyhow::Context as _;
use tfo_userspace::{
    datapath::{self, Control, Namespace},
    kernel::link,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval_at},
};
use tracing::{error, info, level_filters::LevelFilter};
use tracing_subscriber::{
    Layer as _, filter::Targets, layer::SubscriberExt as _, util::SubscriberInitExt as _,
};

use super::{RunArgs, attach, keys, output::warn_if_off};

pub(super) async fn run(args: RunArgs, verbose: u8) -> anyhow::Result<()> {
    start_log(verbose);
    let namespace = Namespace::current()?;
    // Asked for before anything is attached, so that no signal comes in between.
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    args.metrics.start(&args.interfaces).await?;
    let _control = Control::take(&namespace, &args.interfaces)?;
    for interface in &args.interfaces {
        let (mode, settings) = (args.mode.mode.into(), args.mode.settings());
        let ensured = datapath::ensure(&namespace, interface, mode, settings).await?;
        for line in attach::describe_ensured(interface, &ensured).lines() {
            info!("{line}");
        }
    }
    warn_if_off()?;
    tokio::select! {
        () = rotate(&namespace, args.interval) => {}
        _ = terminate.recv() => info!("SIGTERM"),
        _ = interrupt.recv() => info!("SIGINT"),
    }
    if args.detach_on_exit {
        for interface in &args.interfaces {
            let index = link::find(interface).await?.index;
            datapath::detach(&namespace, index, interface)?;
            info!("{interface}: detached");
        }
    } else {
        info!("the data path stays attached: `tfo detach` removes it");
    }
    Ok(())
}

/// Rotates for ever. A rotation that fails changes nothing, and is tried again at the next turn.
async fn rotate(namespace: &Namespace, interval: Duration) {
    let start = tokio::time::Instant::now() + interval;
    let mut turns = interval_at(start, interval);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    info!("rotating keys every {} s", interval.as_secs());
    loop {
        turns.tick().await;
        match namespace.rotate_keys() {
            Ok(pair) => info!("rotated: {}", keys::describe(&pair)),
            Err(error) => error!("{error}"),
        }
    }
}

/// Logs to standard error: this program from `info` on, more with -v, and of the libraries only what
/// goes wrong.
fn start_log(verbose: u8) {
    let level = match verbose {
        0 => LevelFilter::INFO,
        1 => LevelFilter::DEBUG,
        _ => LevelFilter::TRACE,
    };
    let targets = Targets::new()
        .with_default(LevelFilter::ERROR)
        .with_target("tfo", level)
        .with_target("tfo_ebpf", level);
    let lines = tracing_subscriber::fmt::layer()
        .with_writer(io::stderr)
        .with_ansi(io::stderr().is_terminal())
        .with_target(false);
    tracing_subscriber::registry()
        .with(lines.with_filter(targets))
        .init();
}
