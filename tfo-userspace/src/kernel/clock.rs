//! The clocks: the one on the wall, which someone may set, and the one that only goes forward.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};

/// A moment by both clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Since 1970, as other hosts know it.
    pub wall: Duration,
    /// Since the system was started, the time among it in which it was suspended.
    pub boot: Duration,
}

impl Now {
    /// This moment.
    pub fn read() -> Self {
        Self {
            wall: since_1970(),
            boot: since_boot(),
        }
    }

    /// What the clock on the wall would have shown when the other one showed `boot`.
    pub fn wall_at(self, boot: Duration) -> SystemTime {
        let wall = (self.wall + boot).saturating_sub(self.boot);
        UNIX_EPOCH + wall
    }
}

/// The time since 1970 by the clock on the wall; 0 before.
pub fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    now.unwrap_or_default()
}

/// The time since the system was started: `CLOCK_BOOTTIME`, which nobody sets and which goes on while
/// the system is suspended.
pub fn since_boot() -> Duration {
    let time = clock_gettime(ClockId::Boottime);
    // It starts at 0 and does not go back.
    Duration::try_from(time).unwrap_or_default()
}
