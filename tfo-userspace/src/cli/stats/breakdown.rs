//! `tfo stats --by`: counts by port, source or size.

use std::{
    cmp::Reverse,
    io::{self, IsTerminal as _},
    time::Duration,
};

use serde_json::{Map, Value, json};
use tfo_common::{
    abi::{
        sizes::Sizes,
        sources::{SourceCounter, SourceCounts},
    },
    counters::{Counter, Counters},
};
use tfo_userspace::{
    datapath::{Snapshot, Sources},
    model::{FastOpenSummary, Prefix},
};

use crate::cli::{
    output::{counters_json, table},
    rate::{self, per_second},
};

/// An earlier reading to take rates from, and the time since.
type Before<'a, T> = Option<(&'a T, Duration)>;

/// The columns of every port, except those of its rate and its share.
const COLUMNS: [(&str, Counter); 7] = [
    ("SYNs", Counter::Syns),
    ("with data", Counter::SynsWithData),
    ("bytes", Counter::SynDataBytes),
    ("CookieReqd", Counter::CookieReqd),
    ("Passive", Counter::Passive),
    ("AltKey", Counter::PassiveAltKey),
    ("Fail", Counter::PassiveFail),
];
/// Columns of policies and the guard, shown if they are not 0 at every port.
const OPTIONAL: [(&str, Counter); 10] = [
    ("reissued", Counter::PolicyReissue),
    ("fell back", Counter::PolicyFallback),
    ("dropped", Counter::PolicyDrop),
    ("dry reissue", Counter::DryRunReissue),
    ("dry fallback", Counter::DryRunFallback),
    ("dry drop", Counter::DryRunDrop),
    ("proven", Counter::GuardProven),
    ("challenged", Counter::GuardChallenged),
    ("referred", Counter::GuardReferred),
    ("accepted", Counter::GuardAccepted),
];

/// A row of the table of ports.
struct Port<'a> {
    label: String,
    counters: &'a Counters,
    /// SYNs since the earlier reading; 0 without one.
    grown: u64,
}

/// The ports that counted something, or every port if `all`; the busiest first, ports without counters of their own
/// last, together.
fn busiest_first<'a>(now: &'a Snapshot, before: Option<&Snapshot>, all: bool) -> Vec<Port<'a>> {
    let port = |label: String, counters: &'a Counters, earlier: Option<&Counters>| {
        let earlier = earlier.map_or(0, |it| it.get(Counter::Syns));
        let grown = before.map_or(0, |_| counters.get(Counter::Syns).saturating_sub(earlier));
        Port {
            label,
            counters,
            grown,
        }
    };
    let mut ports: Vec<_> = now
        .ports
        .iter()
        .map(|(number, counters)| {
            let earlier = before.and_then(|before| before.ports.get(number));
            port(number.to_string(), counters, earlier)
        })
        .collect();
    ports.sort_by_key(|port| Reverse((port.grown, port.counters.get(Counter::Syns))));
    ports.push(port(
        "other".to_owned(),
        &now.other,
        before.map(|before| &before.other),
    ));
    ports.retain(|port| all || *port.counters != Counters::default());
    ports
}

/// The table of at most `most` ports: the share whose data was taken, the rate of SYNs if there is an earlier reading,
/// counters.
pub(super) fn ports(
    now: &Snapshot,
    before: Before<'_, Snapshot>,
    all: bool,
    most: usize,
) -> String {
    let there = |(_, counter): &&(_, Counter)| all || now.total.get(*counter) > 0;
    let optional = OPTIONAL.iter().filter(there);
    let columns: Vec<_> = COLUMNS.iter().chain(optional).collect();
    let mut heads = vec!["port", "taken"];
    heads.extend(before.map(|_| "SYNs/s"));
    heads.extend(columns.iter().map(|(head, _)| *head));
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect()];
    let ports = busiest_first(now, before.map(|(before, _)| before), all);
    let left = ports.len().saturating_sub(most);
    for port in ports.into_iter().take(most) {
        let share = FastOpenSummary::of(port.counters).taken_share();
        let mut row = vec![port.label, share.to_string()];
        row.extend(before.map(|(_, elapsed)| rate::format(per_second(port.grown, elapsed))));
        let cells = columns.iter();
        row.extend(cells.map(|(_, counter)| port.counters.get(*counter).to_string()));
        rows.push(row);
    }
    if rows.len() == 1 {
        return "no SYN at any port yet\n".to_owned();
    }
    let mut text = table(&rows);
    if left > 0 {
        text += &format!("{left} more: --top N or --all shows them\n");
    }
    text
}

/// An object from port to counters, of the `most` ports with the most SYNs.
pub(super) fn ports_json(ours: &Snapshot, most: usize) -> Value {
    let mut ports: Vec<_> = ours.ports.iter().collect();
    ports.sort_by_key(|(_, counters)| Reverse(counters.get(Counter::Syns)));
    ports
        .into_iter()
        .take(most)
        .map(|(port, counters)| (port.to_string(), counters_json(counters)))
        .collect::<Map<_, _>>()
        .into()
}

/// A row per bucket, from the smallest to the largest that has SYNs, or of every bucket if `all`; on a terminal with
/// a bar.
pub(super) fn sizes(now: &Sizes, before: Before<'_, Sizes>, all: bool) -> String {
    histogram(now, before, all, io::stdout().is_terminal())
}

fn histogram(now: &Sizes, before: Before<'_, Sizes>, all: bool, bars: bool) -> String {
    const WIDTH: u64 = 40;
    let mut buckets: Vec<_> = now.buckets().collect();
    let filled = |(_, _, count): &(u32, u32, u64)| *count > 0;
    let first = buckets.iter().position(filled);
    let last = buckets.iter().rposition(filled);
    match (first, last, all) {
        (Some(first), Some(last), false) => buckets = buckets[first..=last].to_vec(),
        (None, _, false) => return "no SYN with data yet\n".to_owned(),
        _ => {}
    }
    let most = buckets.iter().map(|(.., count)| *count).max();
    let most = most.unwrap_or(0).max(1);
    let mut heads = vec!["bytes".to_owned(), "SYNs".to_owned()];
    heads.extend(before.map(|_| "SYNs/s".to_owned()));
    let mut rows = vec![heads];
    for (least, greatest, count) in &buckets {
        let range = if least == greatest {
            least.to_string()
        } else {
            format!("{least}-{greatest}")
        };
        let mut row = vec![range, count.to_string()];
        row.extend(before.map(|(before, elapsed)| {
            let mut buckets = before.buckets();
            let earlier = buckets.find(|(each, ..)| each == least);
            let grown = count.saturating_sub(earlier.map_or(0, |(.., count)| count));
            rate::format(per_second(grown, elapsed))
        }));
        rows.push(row);
    }
    let text = table(&rows);
    if !bars {
        return text;
    }
    let mut lines = text.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, (.., count)) in lines.zip(&buckets) {
        let width = u128::from(*count) * u128::from(WIDTH) / u128::from(most);
        let width = (width as usize).max(usize::from(*count > 0));
        text += format!("{line}  {}", "#".repeat(width)).trim_end();
        text.push('\n');
    }
    text
}

/// The buckets that have SYNs, or every one if `all`, from the smallest to the largest.
pub(super) fn sizes_json(sizes: &Sizes, all: bool) -> Value {
    sizes
        .buckets()
        .filter(|(.., count)| all || *count > 0)
        .map(|(from, to, count)| json!({ "from": from, "to": to, "count": count }))
        .collect()
}

/// A row per prefix, at most `most`: those with the most requests, uses and failures.
pub(super) fn sources(now: &Sources, before: Before<'_, Sources>, most: usize) -> String {
    let mut heads = vec!["source", "uses", "failures", "requests", "SYNs"];
    heads.extend(before.map(|_| "SYNs/s"));
    heads.push("");
    let mut rows = vec![heads.into_iter().map(str::to_owned).collect()];
    for (prefix, counts) in now.top(most) {
        let number = |habit| counts.get(habit).to_string();
        let mut row = vec![
            prefix.to_string(),
            number(SourceCounter::Uses),
            number(SourceCounter::Failures),
            number(SourceCounter::Requests),
            counts.syns().to_string(),
        ];
        row.extend(before.map(|(before, elapsed)| {
            let earlier = before.0.get(&prefix).map_or(0, SourceCounts::syns);
            rate::format(per_second(counts.syns().saturating_sub(earlier), elapsed))
        }));
        if counts.asks_without_using() {
            row.push("asks without using".to_owned());
        }
        rows.push(row);
    }
    if rows.len() == 1 {
        return "no source yet (or attached with --max-sources 0)\n".to_owned();
    }
    table(&rows)
}

/// The same as an array of objects.
pub(super) fn sources_json(sources: &Sources, top: usize) -> Value {
    let object = |(prefix, counts): (Prefix, SourceCounts)| {
        json!({
            "source": prefix.to_string(),
            "uses": counts.get(SourceCounter::Uses),
            "failures": counts.get(SourceCounter::Failures),
            "requests": counts.get(SourceCounter::Requests),
            "syns": counts.syns(),
            "asks_without_using": counts.asks_without_using(),
        })
    };
    sources.top(top).into_iter().map(object).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bars_are_drawn_on_a_terminal_alone() {
        let mut counts = Sizes::default();
        let histogram = |counts: &Sizes, bars| histogram(counts, None, false, bars);
        assert_eq!(histogram(&counts, true), "no SYN with data yet\n");
        for len in [2, 3, 3, 3, 8, 9, 1] {
            counts.count(len);
        }
        assert_eq!(
            histogram(&counts, false),
            "bytes  SYNs\n1         1\n2-3       4\n4-7       0\n8-15      2\n"
        );
        let bars = histogram(&counts, true);
        let widths: Vec<_> = bars.lines().map(|it| it.matches('#').count()).collect();
        assert_eq!(widths, [0, 10, 40, 0, 20]);
    }

    #[test]
    fn all_sizes_are_shown_if_asked_for() {
        let mut counts = Sizes::default();
        let rows = 1 + counts.buckets().count();
        assert_eq!(histogram(&counts, None, true, true).lines().count(), rows);
        let before = counts;
        counts.count(3);
        let before = Some((&before, Duration::from_secs(2)));
        assert_eq!(
            histogram(&counts, before, false, false),
            "bytes  SYNs  SYNs/s\n2-3       1     0.5\n"
        );
    }

    /// Ports with this many SYNs, all of which used Fast Open.
    fn snapshot(ports: &[(u16, u64)]) -> Snapshot {
        let mut snapshot = Snapshot::default();
        for (port, syns) in ports {
            let mut counters = Counters::default();
            counters.add(Counter::Syns, *syns);
            counters.add(Counter::Passive, *syns);
            snapshot.total += counters;
            snapshot.ports.insert(*port, counters);
        }
        snapshot
    }

    fn first_cells(text: &str) -> Vec<&str> {
        let lines = text.lines().skip(1);
        lines
            .filter_map(|line| line.split_whitespace().next())
            .collect()
    }

    #[test]
    fn the_busiest_port_is_first_and_idle_ones_are_left_out() {
        let now = snapshot(&[(22, 0), (80, 5), (443, 70), (853, 70)]);
        let ports =
            |now: &Snapshot, before: Before<'_, Snapshot>, all| ports(now, before, all, usize::MAX);
        let text = ports(&now, None, false);
        assert_eq!(first_cells(&text), ["443", "853", "80"], "{text}");
        assert!(text.contains("\n443   100.0 %    70 "), "{text}");
        let text = ports(&now, None, true);
        assert_eq!(
            first_cells(&text),
            ["443", "853", "80", "22", "other"],
            "{text}"
        );
        assert!(text.contains("dry fallback"), "{text}");
        // What is busy now comes before what was.
        let before = snapshot(&[(443, 70), (853, 60)]);
        let text = ports(&now, Some((&before, Duration::from_secs(10))), false);
        assert_eq!(first_cells(&text), ["853", "80", "443"], "{text}");
        assert!(text.contains("853   100.0 %     1.0 "), "{text}");
        assert_eq!(
            ports(&Snapshot::default(), None, false),
            "no SYN at any port yet\n"
        );
    }

    #[test]
    fn ports_beyond_the_busiest_are_counted() {
        let now = snapshot(&[(22, 1), (80, 5), (443, 70)]);
        let text = ports(&now, None, false, 2);
        assert_eq!(first_cells(&text), ["443", "80", "1"], "{text}");
        assert!(
            text.ends_with("\n1 more: --top N or --all shows them\n"),
            "{text}"
        );
        let json = ports_json(&now, 2);
        let named: Vec<_> = json.as_object().unwrap().keys().collect();
        assert_eq!(named, ["443", "80"]);
    }

    #[test]
    fn sizes_are_a_list_in_order() {
        let mut counts = Sizes::default();
        for len in [2, 3, 1024] {
            counts.count(len);
        }
        let expected = json!([
            { "from": 2, "to": 3, "count": 2 },
            { "from": 1024, "to": 2047, "count": 1 },
        ]);
        assert_eq!(sizes_json(&counts, false), expected);
        let all = sizes_json(&counts, true);
        assert_eq!(all.as_array().map(Vec::len), Some(counts.buckets().count()));
    }
}
