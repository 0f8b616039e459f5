//! The rule by which one port is guarded.

use std::time::Duration;

use tfo_common::{
    guard::{GuardMode, GuardRule},
    rate::Rate,
};

/// A port's rule. The default never guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PortGuard {
    /// Always, never, or during a flood.
    pub mode: GuardMode,
    /// With [`GuardMode::Auto`]: the rate of SYNs without a valid cookie above which the port is flooded.
    pub above: Rate,
    /// With [`GuardMode::Auto`]: time for which the port stays guarded after a flood.
    pub quiet: Duration,
}

impl Default for PortGuard {
    fn default() -> Self {
        Self {
            mode: GuardMode::Off,
            above: Rate {
                per_second: 1000,
                burst: 1000,
            },
            quiet: Duration::from_secs(30),
        }
    }
}

impl PortGuard {
    /// As `GUARD_PORTS` holds it.
    pub(crate) fn rule(&self) -> GuardRule {
        GuardRule {
            mode: self.mode as u32,
            reserved: 0,
            above: self.above,
            quiet: u64::try_from(self.quiet.as_nanos()).unwrap_or(u64::MAX),
        }
    }

    /// Reads it from `GUARD_PORTS`.
    pub(crate) fn of_rule(rule: &GuardRule) -> Self {
        Self {
            mode: GuardMode::from_number(rule.mode),
            above: rule.above,
            quiet: Duration::from_nanos(rule.quiet),
        }
    }
}
