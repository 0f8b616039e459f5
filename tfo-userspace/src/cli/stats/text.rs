//! The counters of all ports as text.

use std::time::Duration;

use tfo_common::{
    abi::sources::SourceCounts,
    counters::{Counter, Counters},
};
use tfo_userspace::{
    datapath::Drift,
    model::{FastOpenSummary, growth},
};

use crate::cli::{
    output::{counted, list, table},
    rate::{self, per_second},
};

/// Counters, and the earlier ones that rates are taken from.
pub(super) struct Rates<'a> {
    /// The earlier counters, and the time between the two.
    pub(super) before: Option<(&'a Counters, Duration)>,
    pub(super) now: &'a Counters,
    /// Shows zeros, too.
    pub(super) all: bool,
}

impl Rates<'_> {
    /// The counter's rate, as text; `None` if there are no rates here.
    fn rate(&self, counter: Counter) -> Option<String> {
        let (before, elapsed) = self.before?;
        let grown = self.now.get(counter).saturating_sub(before.get(counter));
        Some(format!("{}/s", rate::format(per_second(grown, elapsed))))
    }

    /// The share of SYNs whose data was taken, and the reasons of the others.
    pub(super) fn summary(&self) -> String {
        let summary = FastOpenSummary::of(self.now);
        let mut text = format!("Fast Open: {}\n", taken(&summary));
        if let Some((before, elapsed)) = self.before {
            let lately = FastOpenSummary::of(&growth(before, self.now));
            let seconds = elapsed.as_secs_f64();
            text += &format!("in the last {seconds:.0} s: {}\n", taken(&lately));
        }
        let mut reasons = summary.reasons.clone();
        if self.all {
            let shown = reasons.clone();
            let others = Counter::REASONS.into_iter().filter(|reason| {
                *reason != Counter::ReasonRetransmission
                    && !shown.iter().any(|(each, _)| each == reason)
            });
            reasons.extend(others.map(|reason| (reason, 0)));
        }
        let rows: Vec<_> = reasons
            .iter()
            .map(|(reason, syns)| {
                let mut row = vec![syns.to_string()];
                row.extend(self.rate(*reason));
                row.push(summary.share(*syns).to_string());
                row.push(format!("{} ({})", reason.help(), reason.name()));
                row
            })
            .collect();
        if !rows.is_empty() {
            text += &format!("not taken:\n{}", list(&rows));
        }
        text + &self.also(&summary)
    }

    /// SYNs that are no attempts, or not only.
    fn also(&self, summary: &FastOpenSummary) -> String {
        let rows = [
            (
                summary.cookie_requests,
                Counter::CookieReqd,
                "cookie requests, answered or not; an answered one is no attempt",
            ),
            (
                summary.retransmissions,
                Counter::ReasonRetransmission,
                "retransmitted; the connection has counted already",
            ),
        ];
        let rows = rows.into_iter().filter(|(syns, ..)| *syns > 0 || self.all);
        let rows: Vec<_> = rows
            .map(|(syns, counter, what)| {
                let mut row = vec![syns.to_string()];
                row.extend(self.rate(counter));
                row.push(format!("{what} ({})", counter.name()));
                row
            })
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        format!("also:\n{}", list(&rows))
    }

    /// The counters that mirror the kernel's beside its own, and those of tfo alone.
    pub(super) fn counters(&self, drift: &Drift) -> String {
        let mut heads = vec!["counter", "tfo"];
        heads.extend(self.before.map(|_| "rate"));
        heads.extend(["kernel", "drift"]);
        let mut rows = vec![heads.into_iter().map(str::to_owned).collect::<Vec<_>>()];
        for counter in Counter::MIRRORED.into_iter().chain(Counter::OWN) {
            let ours = self.now.get(counter);
            let mirrored = Counter::MIRRORED.iter().position(|each| *each == counter);
            let kernel = mirrored.map_or(0, |index| drift.kernel[index]);
            if ours == 0 && kernel == 0 && !self.all {
                continue;
            }
            let mut row = vec![counter.name().to_owned(), ours.to_string()];
            row.extend(self.rate(counter));
            if let Some(index) = mirrored {
                row.push(kernel.to_string());
                row.push(drift.drift()[index].to_string());
            }
            rows.push(row);
        }
        if rows.len() == 1 {
            return "\nno SYN yet (--all shows every counter)\n".to_owned();
        }
        format!("\n{}", table(&rows))
    }

    /// The actions of policies and the guard, and their causes; a section for each kind that occurred.
    pub(super) fn sections(&self) -> String {
        let (done, why) = Counter::POLICY.split_at(Counter::POLICY_ACTIONS);
        let (planned, why_planned) = Counter::DRY_RUN.split_at(Counter::POLICY_ACTIONS);
        [
            ("what policies did", done),
            ("why", why),
            ("what policies would have done (dry run)", planned),
            ("why", why_planned),
            ("what policies let pass", &Counter::PASSED),
            ("what the guard did", &Counter::GUARD),
            ("own cookies", &Counter::OWN_COOKIES),
        ]
        .map(|(title, counters)| self.section(title, counters))
        .concat()
    }

    /// Those of `counters` that are not 0, in words, below a title.
    fn section(&self, title: &str, counters: &[Counter]) -> String {
        let shown = counters
            .iter()
            .filter(|counter| self.all || self.now.get(**counter) > 0);
        let rows: Vec<_> = shown
            .map(|counter| {
                let mut row = vec![self.now.get(*counter).to_string()];
                row.extend(self.rate(*counter));
                row.push(format!("{} ({})", counter.help(), counter.name()));
                row
            })
            .collect();
        if rows.is_empty() {
            return String::new();
        }
        format!("\n{title}\n{}", list(&rows))
    }
}

/// "4120 of 4560 SYNs had their data taken (90.4 %)".
fn taken(summary: &FastOpenSummary) -> String {
    match summary.attempts() {
        0 => "no SYN has used it".to_owned(),
        attempts => format!(
            "{} of {attempts} SYNs had their data taken ({})",
            summary.taken,
            summary.taken_share()
        ),
    }
}

/// Findings that are no counter of a port: sources that ask without using or do not come back, and events lost.
pub(super) fn remarks(asks: usize, pool: Option<String>, events_lost: u64) -> String {
    let mut text = String::new();
    if asks > 0 {
        text += &format!(
            "ask without using: {} given {} cookies or more and used none (tfo stats --by source)\n",
            counted(asks as u64, "source was", "sources were"),
            SourceCounts::ASKS
        );
    }
    if let Some(hint) = pool {
        text += &format!("asked once: {hint} (tfo stats --by source)\n");
    }
    if events_lost > 0 {
        text += &format!("events lost: {events_lost} (over the rate of tfo events, or unread)\n");
    }
    if text.is_empty() {
        return text;
    }
    format!("\n{text}")
}

/// Where the causes of drift are listed.
const CAUSES: &str = "docs/reference.md#drift lists what cannot be known";

/// A line for each counter that drifts, and the likely causes.
pub(super) fn drifting(drift: &Drift, found: &[Counter]) -> String {
    let mut text = String::new();
    for (at, counter) in Counter::MIRRORED.into_iter().enumerate() {
        if found.contains(&counter) {
            text += &format!(
                "{}: tfo {}, kernel {}, drift {}\n",
                counter.name(),
                drift.ours.total.get(counter),
                drift.kernel[at],
                drift.drift()[at]
            );
        }
    }
    let by = drift.drift();
    let drifts = |is: fn(i64) -> bool| {
        let mut counters = Counter::MIRRORED.into_iter().zip(by);
        counters.any(|(counter, by)| found.contains(&counter) && is(by))
    };
    if drifts(i64::is_positive) {
        text += "more than the kernel: something behind tfo drops or translates SYNs (a firewall, DNAT, rp_filter, \
                 IP_MINTTL, no route back), or the mirror is packet\n";
    }
    if drifts(i64::is_negative) {
        text += "less than the kernel: SYNs come in by an interface without tfo, loopback included, in a tunnel or as \
                 fragments\n";
    }
    text + CAUSES + "\n"
}

#[cfg(test)]
mod tests {
    use tfo_userspace::datapath::Snapshot;

    use super::*;

    fn counters(pairs: &[(Counter, u64)]) -> Counters {
        let mut counters = Counters::default();
        for (counter, amount) in pairs {
            counters.add(*counter, *amount);
        }
        counters
    }

    fn drift(total: &Counters, kernel: [u64; 5]) -> Drift {
        let ours = Snapshot {
            total: *total,
            ..Snapshot::default()
        };
        Drift { ours, kernel }
    }

    const USED: [(Counter, u64); 7] = [
        (Counter::Syns, 502),
        (Counter::CookieReqd, 42),
        (Counter::Passive, 90),
        (Counter::PassiveFail, 7),
        (Counter::ReasonBadCookie, 7),
        (Counter::ReasonQueueFull, 3),
        (Counter::GuardProven, 5),
    ];

    fn figures<'a>(now: &'a Counters, before: Option<(&'a Counters, Duration)>) -> Rates<'a> {
        Rates {
            before,
            now,
            all: false,
        }
    }

    #[test]
    fn the_share_comes_first_and_reasons_descend() {
        let now = counters(&USED);
        assert_eq!(
            figures(&now, None).summary(),
            "Fast Open: 90 of 100 SYNs had their data taken (90.0 %)\n\
             not taken:\n  \
               7  7.0 %  the cookie is stale, or of another host (ReasonBadCookie)\n  \
               3  3.0 %  the listener's Fast Open queue is full (ReasonQueueFull)\n\
             also:\n  \
               42  cookie requests, answered or not; an answered one is no attempt (TCPFastOpenCookieReqd)\n"
        );
    }

    #[test]
    fn without_an_attempt_there_is_no_share() {
        let now = counters(&[(Counter::Syns, 3)]);
        let text = figures(&now, None).summary();
        assert_eq!(text, "Fast Open: no SYN has used it\n");
    }

    #[test]
    fn zeros_are_left_out_unless_all_are_asked_for() {
        let now = counters(&USED);
        let drift = drift(&now, [42, 90, 6, 0, 0]);
        let mut figures = figures(&now, None);
        assert_eq!(
            figures.counters(&drift),
            "\n\
             counter                 tfo  kernel  drift\n\
             TCPFastOpenCookieReqd    42      42      0\n\
             TCPFastOpenPassive       90      90      0\n\
             TCPFastOpenPassiveFail    7       6      1\n\
             Syns                    502\n"
        );
        let guard = "\nwhat the guard did\n  5  SYNs passed for their valid cookie (GuardProven)\n";
        assert_eq!(figures.sections(), guard);
        figures.all = true;
        let all = figures.summary() + &figures.counters(&drift) + &figures.sections();
        for counter in Counter::ALL {
            let mut names = all.split(['(', ')', ' ', '\n']);
            assert!(
                names.any(|name| name == counter.name()),
                "{counter:?}:\n{all}"
            );
        }
    }

    /// The kernel may have counted what tfo has not.
    #[test]
    fn a_zero_that_drifts_is_shown() {
        let now = Counters::default();
        let text = figures(&now, None).counters(&drift(&now, [0, 0, 0, 0, 2]));
        assert!(
            text.ends_with("TCPFastOpenListenOverflow    0       2     -2\n"),
            "{text}"
        );
        let text = figures(&now, None).counters(&drift(&now, [0; 5]));
        assert_eq!(text, "\nno SYN yet (--all shows every counter)\n");
    }

    #[test]
    fn watching_adds_rates_and_the_last_share() {
        let (before, now) = (counters(&USED), {
            let mut now = counters(&USED);
            now += counters(&[(Counter::Passive, 3), (Counter::ReasonBadCookie, 1)]);
            now
        });
        let figures = figures(&now, Some((&before, Duration::from_secs(2))));
        let text = figures.summary();
        let lines: Vec<_> = text.lines().collect();
        assert_eq!(
            lines[0],
            "Fast Open: 93 of 104 SYNs had their data taken (89.4 %)"
        );
        assert_eq!(
            lines[1],
            "in the last 2 s: 3 of 4 SYNs had their data taken (75.0 %)"
        );
        assert!(lines[3].starts_with("  8  0.5/s  7.7 %"), "{text}");
        let text = figures.counters(&drift(&now, [42, 93, 7, 0, 0]));
        assert!(
            text.contains("counter                 tfo   rate  kernel  drift\n"),
            "{text}"
        );
        assert!(
            text.contains("TCPFastOpenPassive       93  1.5/s      93      0\n"),
            "{text}"
        );
    }

    #[test]
    fn drift_is_told_with_its_likely_causes() {
        let now = counters(&USED);
        let drift = drift(&now, [41, 90, 8, 0, 0]);
        let text = drifting(&drift, &[Counter::CookieReqd]);
        assert!(
            text.starts_with(
                "TCPFastOpenCookieReqd: tfo 42, kernel 41, drift 1\nmore than the kernel: "
            ) && !text.contains("less than")
                && text.ends_with(&format!("\n{CAUSES}\n")),
            "{text}"
        );
        let text = drifting(&drift, &[Counter::PassiveFail]);
        assert!(
            text.starts_with(
                "TCPFastOpenPassiveFail: tfo 7, kernel 8, drift -1\nless than the kernel: "
            ) && !text.contains("more than"),
            "{text}"
        );
        let both = drifting(&drift, &[Counter::CookieReqd, Counter::PassiveFail]);
        assert_eq!(both.lines().count(), 5, "{both}");
    }

    #[test]
    fn remarks_are_made_of_what_occurred() {
        assert_eq!(remarks(0, None, 0), "");
        assert!(remarks(1, None, 0).starts_with("\nask without using: 1 source was given 3 "));
        let pool = remarks(0, Some("40 of 40 sources".to_owned()), 0);
        assert_eq!(
            pool,
            "\nasked once: 40 of 40 sources (tfo stats --by source)\n"
        );
        assert!(remarks(0, None, 7).starts_with("\nevents lost: 7 "));
    }
}
