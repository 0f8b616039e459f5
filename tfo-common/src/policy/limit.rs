//! How many SYNs of a kind may come: token buckets, each in one word.

use crate::sources::Address;

use super::Class;

/// So many SYNs a second. 0 of both for any number.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Rate {
    /// SYNs a second in the long run.
    pub per_second: u32,
    /// SYNs at once; at least 1 where there is a limit.
    pub burst: u32,
}

const SECOND: u64 = 1_000_000_000;

impl Rate {
    /// Any number.
    pub const UNLIMITED: Self = Self {
        per_second: 0,
        burst: 0,
    };

    /// There is no limit.
    #[inline(always)]
    pub const fn is_unlimited(self) -> bool {
        self.per_second == 0
    }

    /// Takes one at `now`, in nanoseconds, from a bucket of which `state` is what it last came to, 0 for one
    /// that is full. Gives what it comes to; `None` where nothing is left.
    ///
    /// The state is the time at which the bucket is full again (the generic cell rate algorithm, ITU-T I.371):
    /// one word, which is replaced in one step.
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
}

/// Of whom a limit speaks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Scope {
    /// One source's SYNs, by prefix.
    Source,
    /// All SYNs at the port; of a default rule, at all ports that have no rule of their own.
    Port,
}

/// How many SYNs of a class may come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Of one source.
    pub source: Rate,
    /// Of all sources.
    pub port: Rate,
}

/// What the bucket of a source is kept under.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LimitKey {
    /// The source's prefix.
    pub source: Address,
    /// The port, and the class's number above it.
    pub port_and_class: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a key.
#[cfg(feature = "user")]
unsafe impl aya::Pod for LimitKey {}

impl LimitKey {
    /// The bucket of SYNs of `class` from `source` to `port`.
    #[inline(always)]
    pub const fn new(source: Address, port: u16, class: Class) -> Self {
        Self {
            source,
            port_and_class: (class as u64) << 16 | port as u64,
        }
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
