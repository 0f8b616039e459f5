//! The clock of challenges, the length of their time slots, and changes of the host that they have to follow at once.

use std::fmt;

use tfo_common::guard::{GuardHead, SLOT_SHIFT};

use crate::kernel::{clock, test_hook::test_hook, window};

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

/// Nanoseconds by which a test has the wall clock ahead of the right time.
fn ahead() -> i64 {
    test_hook!("TFO_TEST_CLOCK_AHEAD").unwrap_or(0)
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
            Self::WindowScale => "net.ipv4.tcp_rmem or net.core.rmem_max changed: challenges state the new window scale",
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
pub(super) fn slot_shift() -> u32 {
    test_hook!("TFO_TEST_GUARD_SLOT_SHIFT").unwrap_or(SLOT_SHIFT)
}
