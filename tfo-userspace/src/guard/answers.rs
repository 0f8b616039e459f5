//! Challenges that nobody completes, answers that are none, and sources over their limit, from two readings of the counters.

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    time::Duration,
};

use tfo_common::counters::{Counter, Counters};

use crate::{datapath::Snapshot, kernel::test_hook::test_hook};

/// The time between two readings that are compared.
const WINDOW: Duration = Duration::from_secs(60);
/// Fewer challenges than this tell nothing: a port scan completes none.
const FEWEST: u64 = 20;

/// A problem with the answers at a port; 0 for ports that are not counted separately.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// So many SYNs were challenged, and no client completed the handshake.
    Unanswered(u64),
    /// So many ACKs answered no challenge, none was right, and this host sent no challenge: others do, under the secret.
    Unproven(u64),
    /// So many SYNs were not challenged for the limit of their source.
    Capped(u64),
}

impl Trouble {
    /// Returns the problems that the counts of a port show.
    pub fn of(counts: &Counters) -> Vec<Self> {
        Self::judge(figures(counts))
    }

    fn judge([challenged, accepted, capped, wrong]: [u64; 4]) -> Vec<Self> {
        let unproven = wrong >= FEWEST && accepted == 0 && challenged == 0;
        let unproven = unproven.then_some(Self::Unproven(wrong));
        let unanswered = challenged >= FEWEST && accepted == 0;
        let unanswered = unanswered.then_some(Self::Unanswered(challenged));
        let capped = (capped > 0).then_some(Self::Capped(capped));
        unanswered
            .into_iter()
            .chain(unproven)
            .chain(capped)
            .collect()
    }

    /// The cause and the remedy.
    pub const fn remedy(self) -> &'static str {
        match self {
            Self::Unanswered(_) => {
                "nothing, if this is a flood and no client came meanwhile; else the SYN-ACKs or the ACKs do not arrive: clear the \
                 guard (`tfo guard clear`) and see the limits of the guard in docs/guard.md"
            }
            Self::Unproven(_) => {
                "compare `tfo guard show` here and on the edge: the secret's fingerprint has to be the same, clocks may differ by 34 \
                 seconds at most, and the window scale is the one that this host advertises (`ss -ti`)"
            }
            Self::Capped(_) => {
                "raise `tfo guard set --replies` above what one client address opens, such as a proxy or a carrier's NAT; \
                 `tfo events` shows the addresses"
            }
        }
    }
}

impl fmt::Display for Trouble {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unanswered(count) => {
                write!(
                    f,
                    "{count} SYNs were challenged, and no client completed the handshake"
                )
            }
            Self::Unproven(count) => write!(
                f,
                "{count} ACKs answered no challenge that this host takes, and none was right: clients that others challenge for it are reset"
            ),
            Self::Capped(count) => write!(
                f,
                "{count} SYNs were not challenged, for the limit `replies` of their source"
            ),
        }
    }
}

fn figures(counts: &Counters) -> [u64; 4] {
    [
        Counter::GuardChallenged,
        Counter::GuardAccepted,
        Counter::GuardCapped,
        Counter::GuardWrongAcks,
    ]
    .map(|counter| counts.get(counter))
}

/// Compares the counters of a namespace once a minute.
#[derive(Debug, Default)]
pub struct Answers {
    /// The last reading.
    at: Option<Duration>,
    counted: BTreeMap<u16, [u64; 4]>,
    /// The troubles that were told and are not over, by port and kind.
    told: BTreeSet<(u16, u8)>,
}

impl Answers {
    /// A reading is due.
    pub fn is_due(&self, now: Duration) -> bool {
        self.at.is_none_or(|at| now.saturating_sub(at) >= window())
    }

    /// Takes a reading. Gives the troubles since the last one, each once until it is over.
    pub fn observe(&mut self, now: Duration, counters: &Snapshot) -> Vec<(u16, Trouble)> {
        let ports = counters
            .ports
            .iter()
            .map(|(port, counts)| (*port, figures(counts)));
        let counted: BTreeMap<_, _> = ports.chain([(0, figures(&counters.other))]).collect();
        let is_first = self.at.replace(now).is_none();
        let before = std::mem::replace(&mut self.counted, counted);
        if is_first {
            return Vec::new();
        }
        let mut troubles = Vec::new();
        for (port, now) in &self.counted {
            let before = before.get(port).copied().unwrap_or_default();
            // The counters may have restarted at 0.
            let grown = |at: usize| now[at].saturating_sub(before[at]);
            let found = Trouble::judge([0, 1, 2, 3].map(grown));
            troubles.extend(found.into_iter().map(|trouble| (*port, trouble)));
        }
        let kind = |trouble: &Trouble| match trouble {
            Trouble::Unanswered(_) => 0,
            Trouble::Unproven(_) => 1,
            Trouble::Capped(_) => 2,
        };
        let key = |(port, trouble): &(u16, Trouble)| (*port, kind(trouble));
        let told = std::mem::replace(&mut self.told, troubles.iter().map(key).collect());
        troubles.retain(|trouble| !told.contains(&key(trouble)));
        troubles
    }
}

/// [`WINDOW`], or what a test sets, in milliseconds.
fn window() -> Duration {
    test_hook!("TFO_TEST_GUARD_WINDOW").map_or(WINDOW, Duration::from_millis)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn reading(challenged: u64, accepted: u64, capped: u64) -> Snapshot {
        let mut counts = Counters::default();
        counts.add(Counter::GuardChallenged, challenged);
        counts.add(Counter::GuardAccepted, accepted);
        counts.add(Counter::GuardCapped, capped);
        Snapshot {
            ports: [(443, counts)].into(),
            ..Snapshot::default()
        }
    }

    #[test]
    fn each_trouble_is_told_once_until_it_is_over() {
        use Trouble::{Capped, Unanswered};
        let mut answers = Answers::default();
        let mut at = Duration::ZERO;
        let mut observe = |challenged, accepted, capped| {
            assert!(answers.is_due(at));
            let found = answers.observe(at, &reading(challenged, accepted, capped));
            assert!(!answers.is_due(at + WINDOW / 2));
            at += WINDOW;
            found
        };
        // What was before anyone looked.
        assert_eq!(observe(100, 0, 5), []);
        // Too few to tell.
        assert_eq!(observe(119, 0, 5), []);
        assert_eq!(observe(139, 0, 5), [(443, Unanswered(20))]);
        assert_eq!(observe(239, 0, 6), [(443, Capped(1))]);
        // A client completes one: it works.
        assert_eq!(observe(339, 1, 6), []);
        assert_eq!(observe(439, 1, 6), [(443, Unanswered(100))]);
        // The counters restarted.
        assert_eq!(observe(3, 0, 0), []);
    }

    /// A port scan brings a few; a right one tells that the secret is.
    #[test]
    fn answers_to_others_challenges_that_are_all_wrong_are_told() {
        assert_eq!(Trouble::judge([0, 0, 0, 19]), []);
        assert_eq!(Trouble::judge([0, 0, 0, 20]), [Trouble::Unproven(20)]);
        assert_eq!(Trouble::judge([0, 1, 0, 20]), []);
        assert_eq!(Trouble::judge([1, 0, 0, 20]), []);
    }
}
