//! What `tfo stats --by` shows.

use std::io::{self, IsTerminal as _};

use serde_json::{Map, Value, json};
use tfo_common::{
    abi::{
        sizes::Sizes,
        sources::{SourceCounter, SourceCounts},
    },
    counters::{Counter, Counters},
};
use tfo_userspace::datapath::{Prefix, Snapshot, Sources};

use super::output::{counters_json, table};

/// A row per port.
pub(super) fn ports(ours: &Snapshot) -> String {
    const COLUMNS: [(&str, Counter); 7] = [
        ("SYNs", Counter::Syns),
        ("with data", Counter::SynsWithData),
        ("bytes", Counter::SynDataBytes),
        ("CookieReqd", Counter::CookieReqd),
        ("Passive", Counter::Passive),
        ("AltKey", Counter::PassiveAltKey),
        ("Fail", Counter::PassiveFail),
    ];
    // Where policies did something, or would have, or the guard did.
    const OTHERS: [(&str, Counter); 9] = [
        ("reissued", Counter::PolicyReissue),
        ("fell back", Counter::PolicyFallback),
        ("dropped", Counter::PolicyDrop),
        ("dry reissue", Counter::DryRunReissue),
        ("dry fallback", Counter::DryRunFallback),
        ("dry drop", Counter::DryRunDrop),
        ("proven", Counter::GuardProven),
        ("challenged", Counter::GuardChallenged),
        ("accepted", Counter::GuardAccepted),
    ];
    let there = |(_, counter): &&(_, Counter)| ours.total.get(*counter) > 0;
    let columns = COLUMNS.iter().chain(OTHERS.iter().filter(there));
    let row = |label: String, counters: &Counters| {
        let cells = columns.clone();
        let cells = cells.map(|(_, counter)| counters.get(*counter).to_string());
        std::iter::once(label).chain(cells).collect()
    };
    let heads = columns.clone().map(|(head, _)| (*head).to_owned());
    let mut rows = vec![std::iter::once("port".to_owned()).chain(heads).collect()];
    for (port, counters) in &ours.ports {
        rows.push(row(port.to_string(), counters));
    }
    rows.push(row("other".to_owned(), &ours.other));
    table(&rows)
}

/// An object from port to counters.
pub(super) fn ports_json(ours: &Snapshot) -> Value {
    ours.ports
        .iter()
        .map(|(port, counters)| (port.to_string(), counters_json(counters)))
        .collect::<Map<_, _>>()
        .into()
}

/// A row per bucket, from the least to the greatest that has something; on a terminal with a bar.
pub(super) fn sizes(sizes: &Sizes) -> String {
    histogram(sizes, io::stdout().is_terminal())
}

fn histogram(sizes: &Sizes, bars: bool) -> String {
    const WIDTH: u64 = 40;
    let buckets: Vec<_> = sizes.buckets().collect();
    let filled = |(_, _, count): &(u32, u32, u64)| *count > 0;
    let first = buckets.iter().position(filled);
    let last = buckets.iter().rposition(filled);
    let (Some(first), Some(last)) = (first, last) else {
        return "no SYN had data yet\n".to_owned();
    };
    let most = sizes.buckets().map(|(.., count)| count).max().unwrap_or(1);
    let mut rows = vec![vec!["bytes".to_owned(), "SYNs".to_owned()]];
    for (least, greatest, count) in &buckets[first..=last] {
        let range = if least == greatest {
            least.to_string()
        } else {
            format!("{least}-{greatest}")
        };
        rows.push(vec![range, count.to_string()]);
    }
    let text = table(&rows);
    if !bars {
        return text;
    }
    let mut lines = text.lines();
    let mut text = format!("{}\n", lines.next().unwrap_or_default());
    for (line, (.., count)) in lines.zip(&buckets[first..=last]) {
        let width = u128::from(*count) * u128::from(WIDTH) / u128::from(most);
        let width = (width as usize).max(usize::from(*count > 0));
        text += format!("{line}  {}", "#".repeat(width)).trim_end();
        text.push('\n');
    }
    text
}

/// An object from each bucket's least size to its count.
pub(super) fn sizes_json(sizes: &Sizes) -> Value {
    sizes
        .buckets()
        .map(|(least, _, count)| (least.to_string(), count.into()))
        .collect::<Map<_, _>>()
        .into()
}

/// A row per prefix, of those with the most requests, uses and failures.
pub(super) fn sources(sources: &Sources, top: usize) -> String {
    let heads = ["source", "uses", "failures", "requests", "SYNs", ""];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    for (prefix, counts) in sources.top(top) {
        let number = |habit| counts.get(habit).to_string();
        let note = if counts.asks_without_using() {
            "asks without using"
        } else {
            ""
        };
        rows.push(vec![
            prefix.to_string(),
            number(SourceCounter::Uses),
            number(SourceCounter::Failures),
            number(SourceCounter::Requests),
            counts.syns().to_string(),
            note.to_owned(),
        ]);
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
    fn bars_stand_on_a_terminal_alone() {
        let mut counts = Sizes::default();
        assert_eq!(histogram(&counts, true), "no SYN had data yet\n");
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
}
