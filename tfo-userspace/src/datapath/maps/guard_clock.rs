//! The clock of challenges, the length of their time slots, and changes of the host that they have to follow at once.

use std::fmt;

use tfo_common::guard::{GuardHead, SLOT_SHIFT};

use crate::kernel::{clock, window};

/// The clock of the guard in the data path: `CLOCK_MONOTONIC` as of the last tick.
pub(crate) fn nanoseconds() -> u64 {
    u64::try_from(clock::monotonic_coarse().as_nanos()).unwrap_or(u64::MAX)
}

/// Nanoseconds from `CLOCK_MONOTONIC` to the wall clock, not 0.
pub(super) fn clock_offset() -> u64 {
    let offset = clock::since_1970().saturating_sub(clock::monotonic());
    let offset = u64::try_from(offset.as_nanos()).unwrap_or(u64::MAX);
    offset.saturating_add_signed(ahead()).max(1)
}

#[cfg(not(feature = "test-hooks"))]
const fn ahead() -> i64 {
    0
}

/// `TFO_TEST_CLOCK_AHEAD`: nanoseconds by which the wall clock is ahead of the right time.
#[cfg(feature = "test-hooks")]
fn ahead() -> i64 {
    let set = std::env::var("TFO_TEST_CLOCK_AHEAD").ok();
    set.and_then(|ahead| ahead.parse().ok()).unwrap_or(0)
}

/// A change of the host that the guard has to follow at once, since challenges of one host are answered at another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stale {
    /// The wall clock was set.
    Clock,
    /// The host advertises another window scale.
    WindowScale,
}

impl fmt::Display for Stale {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Clock => "the wall clock was set: the time slots of challenges follow it",
            Self::WindowScale => "net.ipv4.tcp_rmem changed: challenges state the new window scale",
        })
    }
}

impl Stale {
    /// `None` where secrets are this host's own: slots are its own, too, and what challenges stated is kept.
    pub(super) fn of(head: &GuardHead) -> Option<Self> {
        // More than passes between two readings of the clocks.
        const MOST: u64 = 100_000_000;
        if !head.is_shared() {
            None
        } else if head.clock_offset.abs_diff(clock_offset()) > MOST {
            Some(Self::Clock)
        } else {
            (head.window_scale != u32::from(window::scale())).then_some(Self::WindowScale)
        }
    }
}

/// The length of a time slot is 2 to the power of this, in nanoseconds.
#[cfg(not(feature = "test-hooks"))]
pub(super) const fn slot_shift() -> u32 {
    SLOT_SHIFT
}

/// As above, but `TFO_TEST_GUARD_SLOT_SHIFT` has precedence.
#[cfg(feature = "test-hooks")]
pub(super) fn slot_shift() -> u32 {
    let set = std::env::var("TFO_TEST_GUARD_SLOT_SHIFT").ok();
    set.and_then(|shift| shift.parse().ok())
        .unwrap_or(SLOT_SHIFT)
}
