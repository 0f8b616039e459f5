//! Fast Open in one figure: of the SYNs that asked for it or used it, how many had their data taken.
//!
//! A SYN counts once: as taken (`TCPFastOpenPassive`) or under one `Reason...`. Two kinds are in neither number:
//! a request that is answered with a cookie, since nothing failed, and a retransmission, since its connection has
//! counted already.

use std::{cmp::Reverse, fmt};

use tfo_common::counters::{Counter, Counters};

/// SYNs that asked for Fast Open or used it, by their outcome.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct FastOpenSummary {
    /// SYNs whose data was taken: `TCPFastOpenPassive`. As in the kernel, a SYN with a valid cookie and no data is
    /// one of them, and so is a SYN that a listener took without a cookie.
    pub taken: u64,
    /// Every reason that occurred, except [`Counter::ReasonRetransmission`], and its SYNs; most SYNs first.
    pub reasons: Vec<(Counter, u64)>,
    /// SYNs that asked for a cookie, answered or not: `TCPFastOpenCookieReqd`. Those that were refused are in
    /// `reasons`, too.
    pub cookie_requests: u64,
    /// SYNs with a Fast Open option whose connection or request existed already.
    pub retransmissions: u64,
}

impl FastOpenSummary {
    /// The summary of these counters, of all ports or of one.
    pub fn of(counters: &Counters) -> Self {
        let mut reasons: Vec<_> = Counter::REASONS
            .into_iter()
            .filter(|reason| *reason != Counter::ReasonRetransmission)
            .map(|reason| (reason, counters.get(reason)))
            .filter(|(_, syns)| *syns > 0)
            .collect();
        // Equal ones stay in the order of the table.
        reasons.sort_by_key(|(_, syns)| Reverse(*syns));
        Self {
            taken: counters.get(Counter::Passive),
            reasons,
            cookie_requests: counters.get(Counter::CookieReqd),
            retransmissions: counters.get(Counter::ReasonRetransmission),
        }
    }

    /// SYNs whose data was not taken, for any reason.
    pub fn not_taken(&self) -> u64 {
        let reasons = self.reasons.iter();
        reasons.fold(0, |sum, (_, syns)| sum.saturating_add(*syns))
    }

    /// The denominator of every share here: `taken` and [`Self::not_taken`] together.
    pub fn attempts(&self) -> u64 {
        self.taken.saturating_add(self.not_taken())
    }

    /// The share of [`Self::attempts`] that `syns` of them are.
    pub fn share(&self, syns: u64) -> Share {
        Share {
            part: syns,
            whole: self.attempts(),
        }
    }

    /// The share whose data was taken.
    pub fn taken_share(&self) -> Share {
        self.share(self.taken)
    }
}

/// `part` of `whole`. Its text is a percentage with one decimal, "-" if `whole` is 0. It reads 0.0 % for none
/// alone, and 100.0 % for all alone.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The numerator, at most `whole`.
    pub part: u64,
    /// The denominator.
    pub whole: u64,
}

impl Share {
    /// From 0 to 1; `None` if `whole` is 0.
    #[allow(clippy::cast_precision_loss, reason = "53 bits are enough for a share")]
    pub fn ratio(self) -> Option<f64> {
        (self.whole > 0).then(|| self.part as f64 / self.whole as f64)
    }

    /// In thousandths, rounded; `None` if `whole` is 0.
    pub fn per_mille(self) -> Option<u64> {
        let (part, whole) = (u128::from(self.part), u128::from(self.whole));
        let rounded = (part * 1000 + whole / 2).checked_div(whole)?;
        Some(rounded as u64)
    }
}

impl fmt::Display for Share {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match self.per_mille() {
            None => "-".to_owned(),
            Some(0) if self.part > 0 => "<0.1 %".to_owned(),
            Some(1000) if self.part < self.whole => ">99.9 %".to_owned(),
            Some(share) => format!("{}.{} %", share / 10, share % 10),
        };
        f.pad(&text)
    }
}

/// The growth of every counter from `before` to `now`; 0 for one that fell, as counters do when an interface is
/// detached.
pub fn growth(before: &Counters, now: &Counters) -> Counters {
    let mut grown = Counters::default();
    for counter in Counter::ALL {
        grown.add(
            counter,
            now.get(counter).saturating_sub(before.get(counter)),
        );
    }
    grown
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counters(pairs: &[(Counter, u64)]) -> Counters {
        let mut counters = Counters::default();
        for (counter, amount) in pairs {
            counters.add(*counter, *amount);
        }
        counters
    }

    #[test]
    fn reasons_descend_and_make_up_what_was_not_taken() {
        let summary = FastOpenSummary::of(&counters(&[
            (Counter::Syns, 90_000),
            (Counter::SynsWithData, 5_000),
            (Counter::Passive, 4_120),
            (Counter::PassiveAltKey, 20),
            (Counter::PassiveFail, 300),
            (Counter::ListenOverflow, 140),
            (Counter::ReasonQueueFull, 140),
            (Counter::ReasonBadCookie, 300),
        ]));
        let reasons = [
            (Counter::ReasonBadCookie, 300),
            (Counter::ReasonQueueFull, 140),
        ];
        assert_eq!(summary.reasons, reasons);
        assert_eq!((summary.not_taken(), summary.attempts()), (440, 4_560));
        assert_eq!(summary.taken_share().to_string(), "90.4 %");
        let shares = reasons.map(|(_, syns)| summary.share(syns).to_string());
        assert_eq!(shares, ["6.6 %", "3.1 %"]);
    }

    /// Neither a cookie that was handed out nor a connection that has counted already is a failure.
    #[test]
    fn requests_and_retransmissions_are_no_part_of_the_share() {
        let summary = FastOpenSummary::of(&counters(&[
            (Counter::CookieReqd, 50),
            (Counter::Passive, 3),
            (Counter::ReasonRetransmission, 7),
            (Counter::ReasonListenerWithout, 1),
        ]));
        assert_eq!(summary.attempts(), 4);
        assert_eq!((summary.cookie_requests, summary.retransmissions), (50, 7));
        assert_eq!(summary.reasons, [(Counter::ReasonListenerWithout, 1)]);
        assert_eq!(summary.taken_share().ratio(), Some(0.75));
    }

    #[test]
    fn nothing_of_nothing_is_no_share() {
        let summary = FastOpenSummary::of(&Counters::default());
        assert_eq!(summary, FastOpenSummary::default());
        assert_eq!(summary.taken_share().ratio(), None);
        assert_eq!(summary.taken_share().to_string(), "-");
    }

    #[test]
    fn shares_are_rounded_but_never_to_none_or_all() {
        for (part, whole, text) in [
            (0, 5, "0.0 %"),
            (5, 5, "100.0 %"),
            (1, 3, "33.3 %"),
            (2, 3, "66.7 %"),
            (1, 1_000_000, "<0.1 %"),
            (999_999, 1_000_000, ">99.9 %"),
            (1, 1_000, "0.1 %"),
            (999, 1_000, "99.9 %"),
            (u64::MAX, u64::MAX, "100.0 %"),
        ] {
            assert_eq!(Share { part, whole }.to_string(), text, "{part} of {whole}");
        }
        assert_eq!(format!("{:>8}", Share { part: 1, whole: 2 }), "  50.0 %");
    }

    #[test]
    fn what_falls_has_not_grown() {
        let before = counters(&[(Counter::Syns, 10), (Counter::Passive, 5)]);
        let now = counters(&[(Counter::Syns, 12), (Counter::Passive, 1)]);
        assert_eq!(growth(&before, &now), counters(&[(Counter::Syns, 2)]));
    }
}
