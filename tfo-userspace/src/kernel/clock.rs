//! Clocks: the wall clock, which an administrator may set, and the monotonic ones.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_getres, clock_gettime};

/// One moment by two clocks.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Now {
    /// Wall clock, since 1970.
    pub wall: Duration,
    /// `CLOCK_BOOTTIME`, since the system started, suspended time included.
    pub boot: Duration,
}

impl Now {
    /// Reads both clocks.
    pub fn read() -> Self {
        Self {
            wall: since_1970(),
            boot: since_boot(),
        }
    }

    /// The wall clock's time when `CLOCK_BOOTTIME` was `boot`.
    pub fn wall_at(self, boot: Duration) -> SystemTime {
        let wall = (self.wall + boot).saturating_sub(self.boot);
        UNIX_EPOCH + wall
    }
}

/// Ticks of the kernel's clock in a second: `CONFIG_HZ`.
pub fn ticks() -> u32 {
    const SECOND: i64 = 1_000_000_000;
    let tick = clock_getres(ClockId::MonotonicCoarse).tv_nsec.max(1);
    u32::try_from(SECOND / tick).unwrap_or(1)
}

/// The time since 1970 by the wall clock; 0 before 1970.
pub fn since_1970() -> Duration {
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    shift(now.unwrap_or_default())
}

#[cfg(not(feature = "test-hooks"))]
const fn shift(wall: Duration) -> Duration {
    wall
}

/// Shifts the wall clock by `TFO_TEST_CLOCK_OFFSET` seconds: a time namespace shifts the other clocks, not this
/// one.
#[cfg(feature = "test-hooks")]
fn shift(wall: Duration) -> Duration {
    static OFFSET: std::sync::LazyLock<i64> = std::sync::LazyLock::new(|| {
        super::test_hook::test_hook!("TFO_TEST_CLOCK_OFFSET").unwrap_or(0)
    });
    let offset = Duration::from_secs(OFFSET.unsigned_abs());
    if *OFFSET < 0 {
        wall.saturating_sub(offset)
    } else {
        wall + offset
    }
}

/// `CLOCK_BOOTTIME`: the time since the system started, suspended time included. It cannot be set.
pub fn since_boot() -> Duration {
    read(ClockId::Boottime)
}

/// `CLOCK_MONOTONIC`: `bpf_ktime_get_ns`, which stamps events.
pub fn monotonic() -> Duration {
    read(ClockId::Monotonic)
}

/// `CLOCK_MONOTONIC` as of the last tick: `bpf_ktime_get_coarse_ns`, the guard's clock.
pub fn monotonic_coarse() -> Duration {
    read(ClockId::MonotonicCoarse)
}

fn read(clock: ClockId) -> Duration {
    // They start at 0 and do not go back.
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
