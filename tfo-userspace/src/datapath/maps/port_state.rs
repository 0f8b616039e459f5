//! The state of a guarded port under a new rule, and while no rule challenges.

use tfo_common::guard::{GuardMode, GuardPort};

use crate::model::PortGuard;

/// A port's state once `rule` comes into force at `now`.
pub(super) fn next(before: Option<&GuardPort>, rule: &PortGuard, now: u64) -> GuardPort {
    let before = before.copied().unwrap_or_default();
    let on = before.is_on(now);
    let rule_before = GuardMode::from_number(before.rule.mode);
    let quiet = now.saturating_add(rule.rule().quiet);
    let until = match rule.mode {
        GuardMode::On => u64::MAX,
        GuardMode::Off => before.until.min(now),
        // The data path ends it where the port is not flooded.
        GuardMode::Auto if rule_before == GuardMode::On => quiet,
        GuardMode::Auto => before.until,
    };
    let switches_on = rule.mode == GuardMode::On && !on;
    GuardPort {
        rule: rule.rule(),
        until,
        since: if switches_on { now } else { before.since },
        bucket: before.bucket,
        switches: before.switches + u64::from(switches_on),
        ..before
    }
}

/// The state while the port challenges nobody, whatever its rule is.
pub(super) fn paused(port: &GuardPort) -> GuardPort {
    let mut paused = *port;
    paused.rule.mode = GuardMode::Off as _;
    paused.until = 0;
    paused
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn rule(mode: GuardMode) -> PortGuard {
        PortGuard {
            mode,
            quiet: Duration::from_secs(10),
            ..PortGuard::default()
        }
    }

    #[test]
    fn a_port_that_is_guarded_stays_so() {
        let on = next(None, &rule(GuardMode::On), NOW);
        assert!(on.is_on(u64::MAX - 1) && on.since == NOW && on.switches == 1);
        let again = next(Some(&on), &rule(GuardMode::On), NOW + 5);
        assert!(again == on);
        let auto = next(Some(&on), &rule(GuardMode::Auto), NOW + 5);
        assert!(auto.is_on(NOW + 9_000_000_000) && !auto.is_on(NOW + 11_000_000_000));
        let off = next(Some(&on), &rule(GuardMode::Off), NOW + 5);
        assert!(!off.is_on(NOW + 5) && off.until == NOW + 5, "{off:?}");
        assert_eq!(next(None, &rule(GuardMode::Off), NOW).until, 0);
        assert_eq!(next(None, &rule(GuardMode::Auto), NOW).until, 0);
    }

    #[test]
    fn a_port_that_is_paused_goes_on_as_it_was() {
        let on = next(None, &rule(GuardMode::On), NOW);
        let auto = next(Some(&on), &rule(GuardMode::Auto), NOW);
        for (before, mode) in [(on, GuardMode::On), (auto, GuardMode::Auto)] {
            assert!(before.is_on(NOW + 5) && !paused(&before).is_on(0));
            assert_eq!(next(Some(&before), &rule(mode), NOW + 5), before);
        }
    }
}
