//! Rates, and the token buckets that hold SYNs to them.
//!
//! A bucket is one word: the time, in nanoseconds, at which it is full again (the generic cell rate algorithm,
//! ITU-T I.371). One compare-and-exchange replaces it; 0 is a full bucket.

use crate::atomic::AtomicWord;

const SECOND: u64 = 1_000_000_000;

/// SYNs per second and at once. Zeroes mean no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// SYNs per second in the long run, at most [`Rate::MAX_PER_SECOND`].
    pub per_second: u32,
    /// SYNs at once; at least 1 where there is a limit.
    pub burst: u32,
}

impl Rate {
    /// No limit.
    pub const UNLIMITED: Self = Self {
        per_second: 0,
        burst: 0,
    };

    /// The greatest rate: one SYN per nanosecond.
    pub const MAX_PER_SECOND: u32 = SECOND as u32;

    /// `true` where there is no limit.
    #[inline(always)]
    pub const fn is_unlimited(self) -> bool {
        self.per_second == 0
    }

    /// Takes one token at `now`, in nanoseconds, from a bucket in this state. Returns the next state, or `None`
    /// where the bucket is empty.
    #[inline(always)]
    pub const fn take(self, state: u64, now: u64) -> Option<u64> {
        let Some(interval) = SECOND.checked_div(self.per_second as u64) else {
            return Some(state);
        };
        let full = if state > now { state } else { now };
        // Any burst within a second or a minute is far below 2^64 nanoseconds.
        let room = interval * (self.burst as u64).saturating_sub(1);
        if full - now > room {
            return None;
        }
        Some(full + interval)
    }

    /// Takes one token at `now` from a bucket that several CPUs share; `false` where it is empty.
    #[inline(always)]
    pub fn take_shared(self, bucket: &AtomicWord, now: u64) -> bool {
        let state = bucket.load();
        let Some(next) = self.take(state, now) else {
            return false;
        };
        // Where another CPU came in between, the token that is left decides; it is not taken.
        let before = bucket.compare_exchange(state, next);
        before == state || self.take(before, now).is_some()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_gives_its_burst_and_then_its_rate() {
        let rate = Rate {
            per_second: 10,
            burst: 5,
        };
        let start = 77 * SECOND;
        let (mut state, mut taken) = (0, 0);
        for tick in 0..100 {
            // A hundred tries, one each millisecond.
            if let Some(next) = rate.take(state, start + tick * 1_000_000) {
                (state, taken) = (next, taken + 1);
            }
        }
        assert_eq!(taken, 5, "the burst, and nothing more in the first 100 ms");
        let mut later = 0;
        for tick in 0..10_000 {
            if let Some(next) = rate.take(state, start + SECOND + tick * 1_000_000) {
                (state, later) = (next, later + 1);
            }
        }
        assert!(
            (104..=105).contains(&later),
            "10 s of 10, and the burst: {later}"
        );
    }

    #[test]
    fn no_rate_is_no_limit() {
        assert_eq!(Rate::UNLIMITED.take(7, 9), Some(7));
    }

    #[test]
    fn a_burst_of_one_is_one_per_interval() {
        let rate = Rate {
            per_second: 1000,
            burst: 1,
        };
        let state = rate.take(0, SECOND).unwrap();
        assert_eq!(rate.take(state, SECOND + 999_999), None);
        assert!(rate.take(state, SECOND + 1_000_000).is_some());
    }
}
