//! `tfo stats`.

mod breakdown;
mod text;

use std::{process::ExitCode, time::Duration};

use anyhow::bail;
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};
use tfo_common::{
    abi::sizes::Sizes,
    counters::{Counter, Counters},
};
use tfo_userspace::{
    datapath::{Drift, Namespace, Sources, slug},
    kernel::clock,
    model::FastOpenSummary,
};
use tokio::time::{Instant, MissedTickBehavior, interval};

use self::text::Rates;
use super::{
    arguments::JsonArgs,
    exit::{FOUND, Misuse},
    number::number,
    output::{counters_json, occurred_json, print, print_json, reader_gone, write},
    time::rfc3339,
};

/// Sources and ports that `--by` shows by default.
const TOP: usize = 20;

#[derive(Args)]
pub(super) struct StatsArgs {
    #[command(flatten)]
    json: JsonArgs,
    /// Break the counts down by destination port, by source prefix, or by bytes of data in the SYN
    #[arg(long, value_enum)]
    by: Option<Breakdown>,
    /// With `--by port` and `--by source`: rows to show, the busiest ports or the sources with the most requests, uses
    /// and failures [default: 20; with `--json`, every port]
    #[arg(long, value_name = "N", conflicts_with = "all", value_parser = number::<usize>(1..=u64::MAX))]
    top: Option<usize>,
    /// Show counters, ports and sizes that are 0, too, and every source
    #[arg(long, conflicts_with = "check")]
    all: bool,
    /// Compare with the kernel's counters alone; exit with status 3 if any of them drifts
    #[arg(long, conflicts_with_all = ["watch", "by"])]
    check: bool,
    /// Print again every SECONDS (1 to 86400), with the time and with rates per second, until interrupted
    #[arg(long, value_name = "SECONDS", conflicts_with = "json", value_parser = number::<u64>(1..=86_400))]
    watch: Option<u64>,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Breakdown {
    /// By destination port, the busiest first
    Port,
    /// By source prefix: accepted cookies, refused cookies, cookie requests
    Source,
    /// By bytes of data in the SYN
    Size,
}

impl StatsArgs {
    /// The most rows of a breakdown.
    fn rows(&self) -> usize {
        self.top.unwrap_or(if self.all { usize::MAX } else { TOP })
    }
}

/// All that is read at one time.
struct Reading {
    at: Instant,
    drift: Drift,
    sizes: Sizes,
    sources: Sources,
    events_lost: u64,
}

impl Reading {
    fn take(namespace: &Namespace) -> anyhow::Result<Self> {
        Ok(Self {
            drift: namespace.drift()?,
            at: Instant::now(),
            sizes: namespace.sizes()?,
            sources: namespace.sources()?,
            events_lost: namespace.events_lost()?.total(),
        })
    }
}

pub(super) async fn run(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let has_rows = matches!(args.by, Some(Breakdown::Port | Breakdown::Source));
    if args.top.is_some() && !has_rows {
        bail!(Misuse::new(
            "stats",
            "--top goes with --by port or --by source"
        ));
    }
    let namespace = Namespace::current()?;
    if args.check {
        return check(&namespace, args).await;
    }
    if args.json.json {
        print_json(&to_json(&namespace, args).await?)?;
    } else if let Some(seconds) = args.watch {
        watch(&namespace, args, Duration::from_secs(seconds)).await?;
    } else {
        print(&text(args, &Reading::take(&namespace)?, None))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Prints a block every `period` until interrupted, or until nobody reads any more.
async fn watch(namespace: &Namespace, args: &StatsArgs, period: Duration) -> anyhow::Result<()> {
    let mut turns = interval(period);
    turns.set_missed_tick_behavior(MissedTickBehavior::Delay);
    let mut before: Option<Reading> = None;
    loop {
        tokio::select! {
            _ = turns.tick() => {}
            result = tokio::signal::ctrl_c() => return Ok(result?),
            () = reader_gone() => return Ok(()),
        }
        let reading = Reading::take(namespace)?;
        let gap = if before.is_some() { "\n" } else { "" };
        let time = rfc3339(clock::since_1970(), 0);
        let text = text(args, &reading, before.as_ref());
        if !write(&format!("{gap}{time}\n{text}"))? {
            return Ok(());
        }
        before = Some(reading);
    }
}

/// The text of `now`, with rates since `before`.
fn text(args: &StatsArgs, now: &Reading, before: Option<&Reading>) -> String {
    let elapsed = before.map_or(Duration::ZERO, |before| now.at - before.at);
    match args.by {
        Some(Breakdown::Port) => {
            let before = before.map(|before| (&before.drift.ours, elapsed));
            breakdown::ports(&now.drift.ours, before, args.all, args.rows())
        }
        Some(Breakdown::Size) => {
            let before = before.map(|before| (&before.sizes, elapsed));
            breakdown::sizes(&now.sizes, before, args.all)
        }
        Some(Breakdown::Source) => {
            let before = before.map(|before| (&before.sources, elapsed));
            breakdown::sources(&now.sources, before, args.rows())
        }
        None => {
            let rates = Rates {
                before: before.map(|before| (&before.drift.ours.total, elapsed)),
                now: &now.drift.ours.total,
                all: args.all,
            };
            let asks = now.sources.ask_without_using();
            rates.summary()
                + &rates.counters(&now.drift)
                + &rates.sections()
                + &text::remarks(asks, now.sources.hint_of_pool(), now.events_lost)
        }
    }
}

async fn to_json(namespace: &Namespace, args: &StatsArgs) -> anyhow::Result<Value> {
    let Reading {
        drift,
        sizes,
        sources,
        events_lost,
        ..
    } = Reading::take(namespace)?;
    let by_name = |values: &mut dyn Iterator<Item = Value>| -> Map<String, Value> {
        let names = Counter::MIRRORED.map(|counter| counter.name().to_owned());
        names.into_iter().zip(values).collect()
    };
    let mut interfaces = Map::new();
    for interface in namespace.interfaces().await? {
        let counters = namespace.counters_of(interface.index).read()?.total;
        let counters = if args.all {
            counters_json(&counters)
        } else {
            occurred_json(&counters)
        };
        interfaces.insert(interface.label(), counters);
    }
    let mut object = json!({
        "fast_open": summary_json(&drift.ours.total),
        "counters": counters_json(&drift.ours.total),
        "kernel": by_name(&mut drift.kernel.into_iter().map(Value::from)),
        "drift": by_name(&mut drift.drift().into_iter().map(Value::from)),
        "interfaces": interfaces,
        "ask_without_using": sources.ask_without_using(),
        "asked_once": sources.asked_once(),
        "events_lost": events_lost,
    });
    match args.by {
        Some(Breakdown::Port) => {
            object["ports"] = breakdown::ports_json(&drift.ours, args.top.unwrap_or(usize::MAX));
            object["other_ports"] = counters_json(&drift.ours.other);
        }
        Some(Breakdown::Size) => object["sizes"] = breakdown::sizes_json(&sizes, args.all),
        Some(Breakdown::Source) => {
            object["sources"] = breakdown::sources_json(&sources, args.rows());
        }
        None => {}
    }
    Ok(object)
}

/// The figure that `tfo stats` begins with. Shares are from 0 to 1; `null` while there are no attempts.
pub(super) fn summary_json(counters: &Counters) -> Value {
    let summary = FastOpenSummary::of(counters);
    let reasons = summary.reasons.iter().map(|(reason, syns)| {
        json!({
            "reason": slug(*reason),
            "counter": reason.name(),
            "syns": syns,
            "share": summary.share(*syns).ratio(),
        })
    });
    json!({
        "attempts": summary.attempts(),
        "taken": summary.taken,
        "share": summary.taken_share().ratio(),
        "not_taken": summary.not_taken(),
        "reasons": reasons.collect::<Vec<_>>(),
        "cookie_requests": summary.cookie_requests,
        "retransmissions": summary.retransmissions,
    })
}

/// Compares several times, and calls drift only what differs every time.
async fn check(namespace: &Namespace, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let (drift, found) = namespace.lasting_drift().await?;
    if args.json.json {
        let mut object = to_json(namespace, args).await?;
        let names = found.iter().map(|counter| counter.name());
        object["drifting"] = names.collect();
        print_json(&object)?;
    } else if found.is_empty() {
        print("no drift: tfo and the kernel counted the same\n")?;
    } else {
        print(&text::drifting(&drift, &found))?;
    }
    Ok(if found.is_empty() {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(FOUND)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_summary_has_its_reasons_in_json() {
        let mut counters = Counters::default();
        for (counter, amount) in [
            (Counter::Passive, 3),
            (Counter::CookieReqd, 2),
            (Counter::ReasonBadCookie, 1),
        ] {
            counters.add(counter, amount);
        }
        let reason = json!({
            "reason": "bad-cookie", "counter": "ReasonBadCookie", "syns": 1, "share": 0.25,
        });
        let expected = json!({
            "attempts": 4, "taken": 3, "share": 0.75, "not_taken": 1, "reasons": [reason],
            "cookie_requests": 2, "retransmissions": 0,
        });
        assert_eq!(summary_json(&counters), expected);
        assert_eq!(summary_json(&Counters::default())["share"], Value::Null);
    }
}
