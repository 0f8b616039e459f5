//! Counts by source prefix: who asks for Fast Open and who uses it.

use crate::classify::Outcome;

/// One of the counters that a source prefix has. A SYN that is counted by source raises exactly one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum SourceCounter {
    /// SYNs that asked for a cookie, where the kernel answers with one.
    Requests,
    /// SYNs whose data was taken.
    Uses,
    /// SYNs with an invalid cookie.
    Failures,
    /// All other SYNs with Fast Open or data.
    Others,
}

impl SourceCounter {
    /// Number of counters.
    pub const COUNT: usize = 4;

    /// The counter of a SYN with this outcome.
    #[inline(always)]
    pub const fn of(outcome: Outcome) -> Self {
        match outcome {
            Outcome::Request => Self::Requests,
            Outcome::Primary | Outcome::Backup | Outcome::WithoutCookie => Self::Uses,
            Outcome::BadCookie | Outcome::BadLength => Self::Failures,
            _ => Self::Others,
        }
    }
}

/// The counters of one source prefix: a value of the map `SOURCES`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SourceCounts([u64; SourceCounter::COUNT]);

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are counts.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SourceCounts {}

impl SourceCounts {
    /// Cookies handed out without one in use from which a source counts as unable to use them.
    pub const ASKS: u64 = 3;

    /// The value of one counter.
    pub const fn get(&self, counter: SourceCounter) -> u64 {
        self.0[counter as usize]
    }

    /// The sum of all counters.
    pub fn syns(&self) -> u64 {
        self.0.iter().fold(0, |sum, each| sum.wrapping_add(*each))
    }

    /// SYNs with a Fast Open option: the order in which sources are listed.
    pub const fn weight(&self) -> u64 {
        self.get(SourceCounter::Requests)
            .saturating_add(self.get(SourceCounter::Uses))
            .saturating_add(self.get(SourceCounter::Failures))
    }

    /// The source was given [`Self::ASKS`] cookies or more and used none: there is probably a middlebox on the path
    /// that strips cookies or SYN data.
    pub const fn asks_without_using(&self) -> bool {
        self.get(SourceCounter::Requests) >= Self::ASKS && self.get(SourceCounter::Uses) == 0
    }
}

impl core::ops::AddAssign for SourceCounts {
    fn add_assign(&mut self, more: Self) {
        for (value, more) in self.0.iter_mut().zip(more.0) {
            *value = value.wrapping_add(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn asking_without_using_takes_three_and_no_use() {
        for (counts, asks) in [
            ([2, 0, 0, 9], false),
            ([3, 0, 0, 0], true),
            ([3, 0, 1, 0], true),
            ([9, 1, 0, 0], false),
        ] {
            assert_eq!(SourceCounts(counts).asks_without_using(), asks);
        }
    }
}
