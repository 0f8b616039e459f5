//! `tfo events`.

mod switches;

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use anyhow::{Context as _, bail};
use serde_json::json;
use tfo_common::{abi::events::Event, counters::Counter, guard::GuardAction};
use tfo_userspace::{
    datapath::{EventFilter, EventStream, Lost, Namespace, slug},
    kernel::clock::monotonic,
};
use tokio::{
    signal::unix::{SignalKind, signal},
    time::{MissedTickBehavior, interval},
};

use self::switches::Watch;
use super::{EventsArgs, output::write};

/// How often the rings are read. At the default rate, a ring has room for eight times as much.
const TURN: Duration = Duration::from_millis(50);

/// How often the data path hears that someone still listens.
const RENEWAL: Duration = Duration::from_secs(1);

pub(super) async fn run(args: &EventsArgs) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let mut terminate = signal(SignalKind::terminate()).context("cannot wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("cannot wait for SIGINT")?;
    let mut streams = namespace.events(EventFilter {
        port: args.port,
        reason: args.reason,
        rate: args.rate,
    })?;
    // A switch of the guard is no SYN: it has no reason, and `--count` does not count it.
    let mut watch = args
        .reason
        .is_none()
        .then(|| Watch::new(&namespace, args.port));
    let mut left = args.count.unwrap_or(u64::MAX);
    let mut told = 0;
    tokio::select! {
        result = read(&mut streams, watch.as_mut(), args.json, &mut left, &mut told) => result?,
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

/// Prints what comes, until `left` is used up, or nobody reads any more.
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
                bail!("detached meanwhile: `tfo attach IFACE`, then `tfo events` again");
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

/// What stands in the rings, in the order of its time; at most `most` of each.
fn turn(streams: &mut [EventStream], most: u64) -> Vec<Event> {
    /// More than a ring holds, so that a flood does not keep the loop from renewing.
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

/// What the wall clock said when the clock of events began.
fn clock_at_boot() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default().saturating_sub(monotonic())
}

fn line(event: &Event, since_boot: Duration) -> String {
    let mut text = format!(
        "{}  {} > {}  {} bytes  {}",
        time(event.time, since_boot),
        end(event.source.ip(), event.source_port()),
        end(event.destination.ip(), event.destination_port()),
        event.data_len,
        event.outcome().name(),
    );
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
        "time": time(event.time, since_boot),
        "source": event.source.ip(),
        "source_port": event.source_port(),
        "destination": event.destination.ip(),
        "destination_port": event.destination_port(),
        "data_len": event.data_len,
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
            "{told} {events}, {total} lost: {} over the rate (--rate), {} as the ring was full",
            lost.over_rate, lost.ring_full
        ),
    }
}

/// The reason of that name, as [`slug`] or the counters have it.
pub(super) fn reason(text: &str) -> Result<Counter, String> {
    let mut reasons = Counter::REASONS.into_iter();
    reasons
        .find(|reason| text == slug(*reason) || text == reason.name())
        .ok_or_else(|| {
            let all = Counter::REASONS.map(slug).join(", ");
            format!("the reasons are {all}")
        })
}

/// RFC 3339, in UTC, to the microsecond.
fn time(nanoseconds: u64, since_boot: Duration) -> String {
    let time = since_boot + Duration::from_nanos(nanoseconds);
    let (days, second) = (time.as_secs() / 86_400, time.as_secs() % 86_400);
    let (year, month, day) = date(days);
    format!(
        "{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}.{:06}Z",
        second / 3600,
        second / 60 % 60,
        second % 60,
        time.subsec_micros()
    )
}

/// The date so many days after 1970-01-01. Years begin in March here, so that the day which not all of
/// them have comes last.
const fn date(days: u64) -> (u64, u64, u64) {
    let days = days + 719_468;
    let era = days / 146_097;
    let day = days % 146_097;
    let year = (day - day / 1460 + day / 36_524 - day / 146_096) / 365;
    let day = day - (365 * year + year / 4 - year / 100);
    let month = (5 * day + 2) / 153;
    let (march_year, day) = (era * 400 + year, day - (153 * month + 2) / 5 + 1);
    if month < 10 {
        (march_year, month + 3, day)
    } else {
        (march_year + 1, month - 9, day)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_gregorian() {
        for (days, expected) in [
            (0, (1970, 1, 1)),
            (58, (1970, 2, 28)),
            (59, (1970, 3, 1)),
            (11_016, (2000, 2, 29)),
            (11_017, (2000, 3, 1)),
            (20_089, (2025, 1, 1)),
            (47_540, (2100, 2, 28)),
            (47_541, (2100, 3, 1)),
        ] {
            assert_eq!(date(days), expected, "{days}");
        }
    }

    #[test]
    fn every_reason_has_a_name() {
        assert_eq!(slug(Counter::ReasonBadCookie), "bad-cookie");
        for counter in Counter::REASONS {
            assert_eq!(reason(&slug(counter)), Ok(counter));
            assert_eq!(reason(counter.name()), Ok(counter));
        }
        assert!(reason("Passive").unwrap_err().contains("bad-cookie"));
    }
}
