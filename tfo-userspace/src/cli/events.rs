//! `tfo events`.

mod switches;

use std::{
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

use anyhow::{Context as _, bail};
use clap::{
    Args,
    builder::{PossibleValue, PossibleValuesParser, TypedValueParser},
};
use serde_json::json;
use tfo_common::{
    abi::events::Event, counters::Counter, fastopen::own::OwnCookie, guard::GuardAction,
};
use tfo_userspace::{
    datapath::{DEFAULT_RATE, EventFilter, EventStream, Lost, Namespace, slug},
    kernel::clock::monotonic,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use self::switches::Watch;
use super::{
    number::{self, number},
    output::{reader_gone, write},
    time::of_event,
};

/// Time between two readings of the rings. At the default rate, a ring holds eight times as much.
const TURN: Duration = Duration::from_millis(50);

/// Time between two renewals, without which the data path stops sending events.
const RENEWAL: Duration = Duration::from_secs(1);

#[derive(Args)]
pub(super) struct EventsArgs {
    /// Print one JSON object per line
    #[arg(long)]
    json: bool,
    /// Only SYNs to this port
    #[arg(long, value_name = "PORT", value_parser = number::port)]
    port: Option<u16>,
    /// Only SYNs whose data was not taken for this reason, such as bad-cookie
    #[arg(long, value_name = "REASON", value_parser = reasons())]
    reason: Option<Counter>,
    /// Only SYNs with an own cookie of this kind, such as expired
    #[arg(long, value_name = "KIND", value_parser = own_cookies())]
    own_cookie: Option<OwnCookie>,
    /// Exit after this many SYNs [default: no limit]
    #[arg(long, value_name = "N", value_parser = number::<u64>(1..=u64::MAX))]
    count: Option<u64>,
    /// Print at most this many SYNs per second; every CPU of every interface has an equal share
    #[arg(long, default_value_t = DEFAULT_RATE, value_name = "N", value_parser = number::<u32>(1..=u64::from(u32::MAX)))]
    rate: u32,
}

pub(super) async fn run(args: &EventsArgs) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut streams = namespace.events(EventFilter {
        port: args.port,
        reason: args.reason,
        own_cookie: args.own_cookie,
        rate: args.rate,
    })?;
    // A switch of the guard has neither reason nor cookie, and `--count` does not count it.
    let mut watch = (args.reason.is_none() && args.own_cookie.is_none())
        .then(|| Watch::new(&namespace, args.port));
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut told = 0;
    tokio::select! {
        result = read(&mut streams, watch.as_mut(), args.json, &mut left, &mut told) => result?,
        () = reader_gone() => {}
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
    }
    let mut lost = Lost::default();
    for stream in &streams {
        lost += stream.lost()?;
    }
    drop(streams);
    eprintln!("tfo: {}", summary(told, lost));
    Ok(())
}

/// Prints events until `left` is used up, or nobody reads any more.
async fn read(
    streams: &mut [EventStream],
    mut watch: Option<&mut Watch<'_>>,
    json: bool,
    left: &mut u64,
    told: &mut u64,
) -> anyhow::Result<()> {
    let mut turns = interval(TURN);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut renewed: Option<tokio::time::Instant> = None;
    while *left > 0 {
        let now = turns.tick().await;
        if renewed.is_none_or(|renewed| now.duration_since(renewed) >= RENEWAL) {
            if streams.iter().all(EventStream::is_over) {
                bail!("detached meanwhile: `tfo attach IFACE`, then run `tfo events` again");
            }
            streams.iter_mut().try_for_each(EventStream::listen)?;
            renewed = Some(now);
        }
        let since_boot = clock_at_boot();
        let mut text = String::new();
        for event in turn(streams, *left) {
            text += &if json {
                format!("{}\n", to_json(&event, since_boot))
            } else {
                line(&event, since_boot)
            };
            *left -= 1;
            *told += 1;
        }
        if let Some(watch) = &mut watch {
            text += &watch.look(json, since_boot);
        }
        if !text.is_empty() && !write(&text)? {
            break;
        }
    }
    Ok(())
}

/// The events in the rings, at most `most`, in the order of their time.
fn turn(streams: &mut [EventStream], most: u64) -> Vec<Event> {
    /// More than a ring holds; a bound, so that a flood does not keep the loop from renewing.
    const BOUND: u64 = 4096;
    let most = most.min(BOUND);
    let mut events = Vec::new();
    for stream in streams {
        let next = std::iter::from_fn(|| stream.next_event());
        events.extend(next.take(most as usize));
    }
    events.sort_by_key(|event| event.time);
    events.truncate(most as usize);
    events
}

/// The wall clock's time, since 1970, at which the clock of events stood at 0.
fn clock_at_boot() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().saturating_sub(monotonic())
}

fn line(event: &Event, since_boot: Duration) -> String {
    let mut text = format!(
        "{}  {} > {}  {} bytes  {}",
        of_event(event.time, since_boot),
        end(event.source.ip(), event.source_port()),
        end(event.destination.ip(), event.destination_port()),
        event.data_len,
        event.outcome().name(),
    );
    if let Some(own) = event.own_cookie() {
        text += &format!(" (own cookie: {})", own.name());
    }
    if let Some(reason) = event.reason() {
        text += &format!(": {}", reason.help());
    }
    if let Some(counter) = event.guard().counter() {
        let issued = if event.cookie_issued() {
            ", with a cookie"
        } else {
            ""
        };
        text += &format!("  -> {}{issued}: {}", event.guard().name(), counter.help());
    }
    if let Some(((action, dry_run), cause)) = event.action().zip(event.cause()) {
        let dry_run = if dry_run { " (dry run)" } else { "" };
        text += &format!("  -> {}{dry_run}: {}", action.name(), cause.help());
    }
    text.push('\n');
    text
}

fn end(address: std::net::IpAddr, port: u16) -> std::net::SocketAddr {
    (address, port).into()
}

fn to_json(event: &Event, since_boot: Duration) -> serde_json::Value {
    json!({
        "event": "syn",
        "time": of_event(event.time, since_boot),
        "source": event.source.ip(),
        "source_port": event.source_port(),
        "destination": event.destination.ip(),
        "destination_port": event.destination_port(),
        "data_len": event.data_len,
        "own_cookie": event.own_cookie().map(OwnCookie::name),
        "outcome": event.outcome().name(),
        "reason": event.reason().map(slug),
        "action": event.action().map(|(action, _)| action.name()),
        "cause": event.cause().map(slug),
        "dry_run": event.action().map(|(_, dry_run)| dry_run),
        "guard": (event.guard() != GuardAction::None).then(|| event.guard().name()),
        "cookie_handed_out": event.cookie_issued(),
    })
}

fn summary(told: u64, lost: Lost) -> String {
    let events = if told == 1 { "event" } else { "events" };
    match lost.total() {
        0 => format!("{told} {events}, none lost"),
        total => format!(
            "{told} {events}, {total} lost: {} over the rate (--rate), {} because the ring was full",
            lost.over_rate, lost.ring_full
        ),
    }
}

/// A parser of reasons, by their names as [`slug`] or [`Counter::name`] gives them.
fn reasons() -> impl TypedValueParser<Value = Counter> {
    static SLUGS: LazyLock<Vec<String>> =
        LazyLock::new(|| Counter::REASONS.into_iter().map(slug).collect());
    let values = SLUGS.iter().zip(Counter::REASONS);
    let values =
        values.map(|(slug, reason)| PossibleValue::new(slug.as_str()).alias(reason.name()));
    PossibleValuesParser::new(values).try_map(|text| reason(&text))
}

fn reason(text: &str) -> Result<Counter, String> {
    let mut reasons = Counter::REASONS.into_iter();
    let reason = reasons.find(|reason| text == slug(*reason) || text == reason.name());
    reason.ok_or_else(|| format!("{text} is no reason"))
}

/// A parser of the kinds of own cookies that an event can have.
fn own_cookies() -> impl TypedValueParser<Value = OwnCookie> {
    let kinds = OwnCookie::ALL.into_iter();
    let kinds = kinds.filter(|own| own.counter().is_some());
    PossibleValuesParser::new(kinds.map(OwnCookie::name)).try_map(|text| {
        OwnCookie::from_name(&text).ok_or_else(|| format!("{text} is no kind of own cookie"))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_a_name() {
        assert_eq!(slug(Counter::ReasonBadCookie), "bad-cookie");
        for counter in Counter::REASONS {
            assert_eq!(reason(&slug(counter)), Ok(counter));
            assert_eq!(reason(counter.name()), Ok(counter));
        }
        assert!(reason("Passive").is_err());
    }
}
