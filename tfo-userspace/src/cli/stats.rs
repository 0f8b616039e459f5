//! `tfo stats`.

use std::{process::ExitCode, time::Duration};

use serde_json::{Map, Value, json};
use tfo_common::{
    abi::sources::SourceCounts,
    counters::{Counter, Counters},
};
use tfo_userspace::datapath::{Drift, Namespace};

use super::{
    Breakdown, FOUND, StatsArgs, breakdown,
    output::{counters_json, print, print_json, table},
};

pub(super) async fn run(args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let namespace = Namespace::current()?;
    if args.check {
        return check(&namespace, args).await;
    }
    if args.json.json {
        print_json(&to_json(&namespace, args).await?)?;
        return Ok(ExitCode::SUCCESS);
    }
    loop {
        print(&text(&namespace, args)?)?;
        let Some(seconds) = args.watch else {
            return Ok(ExitCode::SUCCESS);
        };
        tokio::select! {
            () = tokio::time::sleep(Duration::from_secs(seconds)) => print("\n")?,
            _ = tokio::signal::ctrl_c() => return Ok(ExitCode::SUCCESS),
        }
    }
}

fn text(namespace: &Namespace, args: &StatsArgs) -> anyhow::Result<String> {
    let drift = namespace.drift()?;
    Ok(match args.by {
        Some(Breakdown::Port) => breakdown::ports(&drift.ours),
        Some(Breakdown::Size) => breakdown::sizes(&namespace.sizes()?),
        Some(Breakdown::Source) => breakdown::sources(&namespace.sources()?, args.top),
        None => {
            let total = &drift.ours.total;
            let guard = listing("what the guard did", &Counter::GUARD, total);
            totals(&drift) + &reasons(total) + &policies(total) + &guard + &remarks(namespace)?
        }
    })
}

async fn to_json(namespace: &Namespace, args: &StatsArgs) -> anyhow::Result<Value> {
    let drift = namespace.drift()?;
    let by_name = |values: &mut dyn Iterator<Item = Value>| -> Map<String, Value> {
        let names = Counter::MIRRORED.map(|counter| counter.name().to_owned());
        names.into_iter().zip(values).collect()
    };
    let mut interfaces = Map::new();
    for interface in namespace.interfaces().await? {
        let counters = namespace.counters_of(interface.index).read()?.total;
        interfaces.insert(interface.label(), counters_json(&counters));
    }
    let sources = namespace.sources()?;
    let mut object = json!({
        "counters": counters_json(&drift.ours.total),
        "kernel": by_name(&mut drift.kernel.into_iter().map(Value::from)),
        "drift": by_name(&mut drift.drift().into_iter().map(Value::from)),
        "interfaces": interfaces,
        "ask_without_using": sources.ask_without_using(),
        "events_lost": namespace.events_lost()?.total(),
    });
    match args.by {
        Some(Breakdown::Port) => {
            object["ports"] = breakdown::ports_json(&drift.ours);
            object["other_ports"] = counters_json(&drift.ours.other);
        }
        Some(Breakdown::Size) => object["sizes"] = breakdown::sizes_json(&namespace.sizes()?),
        Some(Breakdown::Source) => {
            object["sources"] = breakdown::sources_json(&sources, args.top);
        }
        None => {}
    }
    Ok(object)
}

/// Every counter; beside those that the kernel has, too, its value. Reasons and policies follow by themselves.
fn totals(drift: &Drift) -> String {
    let mut rows = vec![
        ["counter", "tfo", "kernel", "drift"]
            .map(str::to_owned)
            .to_vec(),
    ];
    for counter in Counter::MIRRORED.into_iter().chain(Counter::OWN) {
        let mut row = vec![
            counter.name().to_owned(),
            drift.ours.total.get(counter).to_string(),
        ];
        if let Some(index) = Counter::MIRRORED.iter().position(|each| *each == counter) {
            row.push(drift.kernel[index].to_string());
            row.push(drift.drift()[index].to_string());
        }
        rows.push(row);
    }
    table(&rows)
}

/// Why SYNs that asked for Fast Open did not get it, the most frequent reason first.
fn reasons(total: &Counters) -> String {
    let mut reasons = Counter::REASONS;
    reasons.sort_by_key(|reason| std::cmp::Reverse(total.get(*reason)));
    listing("why Fast Open was not used", &reasons, total)
}

/// What policies did or would have done, and why.
fn policies(total: &Counters) -> String {
    let (done, why) = Counter::POLICY.split_at(Counter::POLICY_ACTIONS);
    let (planned, why_planned) = Counter::DRY_RUN.split_at(Counter::POLICY_ACTIONS);
    [
        ("what policies did", done),
        ("why", why),
        ("what policies would have done (dry run)", planned),
        ("why", why_planned),
        ("what policies let pass", &Counter::PASSED),
    ]
    .map(|(title, counters)| listing(title, counters, total))
    .concat()
}

/// Those of `counters` that are not 0, in words, below a title.
fn listing(title: &str, counters: &[Counter], total: &Counters) -> String {
    let mut counters = counters.to_vec();
    counters.retain(|counter| total.get(*counter) > 0);
    let widths = counters.iter();
    let widths = widths.map(|counter| total.get(*counter).to_string().len());
    let Some(width) = widths.max() else {
        return String::new();
    };
    let mut text = format!("\n{title}\n");
    for counter in counters {
        let (count, help) = (total.get(counter), counter.help());
        text += &format!("  {count:>width$}  {help} ({})\n", counter.name());
    }
    text
}

/// What no counter of a port says.
fn remarks(namespace: &Namespace) -> anyhow::Result<String> {
    let asks = namespace.sources()?.ask_without_using();
    let mut text = format!(
        "\nask without using   {asks}  (sources that were given {} cookies or more and used none)\n",
        SourceCounts::ASKS
    );
    let lost = namespace.events_lost()?.total();
    if lost > 0 {
        text +=
            &format!("events lost         {lost}  (over the rate of `tfo events`, or unread)\n");
    }
    Ok(text)
}

/// Looks a few times, and calls drift what is there every time.
async fn check(namespace: &Namespace, args: &StatsArgs) -> anyhow::Result<ExitCode> {
    let (drift, found) = namespace.lasting_drift().await?;
    if args.json.json {
        let mut object = to_json(namespace, args).await?;
        let names = found.iter().map(|counter| counter.name());
        object["drifting"] = names.collect();
        print_json(&object)?;
    } else if found.is_empty() {
        print("no drift: what tfo counted is what the kernel counted\n")?;
    }
    if found.is_empty() {
        return Ok(ExitCode::SUCCESS);
    }
    if !args.json.json {
        let mut text = String::new();
        let rows = Counter::MIRRORED.into_iter().enumerate();
        for (at, counter) in rows.filter(|(_, counter)| found.contains(counter)) {
            text += &format!(
                "{}: tfo {}, kernel {}, drift {}\n",
                counter.name(),
                drift.ours.total.get(counter),
                drift.kernel[at],
                drift.drift()[at]
            );
        }
        print(&text)?;
    }
    Ok(ExitCode::from(FOUND))
}
