//! The clocks: the one on the wall, which someone may set, and the one that only goes forward.

use std::{
    env,
    sync::LazyLock,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

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

/// For tests alone: by how many seconds the clock on the wall is wrong. A time namespace moves the other
/// clocks, not this one.
const OFFSET: &str = "TFO_TEST_CLOCK_OFFSET";

/// The time since 1970 by the clock on the wall; 0 before.
pub fn since_1970() -> Duration {
    static WRONG_BY: LazyLock<i64> = LazyLock::new(|| {
        let set = env::var(OFFSET).ok();
        set.and_then(|seconds| seconds.parse().ok()).unwrap_or(0)
    });
    let now = SystemTime::now().duration_since(UNIX_EPOCH);
    let now = now.unwrap_or_default();
    let offset = Duration::from_secs(WRONG_BY.unsigned_abs());
    if *WRONG_BY < 0 {
        now.saturating_sub(offset)
    } else {
        now + offset
    }
}

/// The time since the system was started: `CLOCK_BOOTTIME`, which nobody sets and which goes on while
/// the system is suspended.
pub fn since_boot() -> Duration {
    read(ClockId::Boottime)
}

/// The clock of the data path's events: `CLOCK_MONOTONIC`, as of `bpf_ktime_get_ns`.
pub fn monotonic() -> Duration {
    read(ClockId::Monotonic)
}

/// The clock of the guard in the data path: `CLOCK_MONOTONIC` as of the last tick, as of
/// `bpf_ktime_get_coarse_ns`.
pub fn monotonic_coarse() -> Duration {
    read(ClockId::MonotonicCoarse)
}

fn read(clock: ClockId) -> Duration {
    // They start at 0 and do not go back.
    Duration::try_from(clock_gettime(clock)).unwrap_or_default()
}
