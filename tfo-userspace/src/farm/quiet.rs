//! Log lines that whoever writes to etcd can cause, limited in number.

use std::time::Duration;

/// Lines in a burst, and the time after which there may be one more.
const BURST: u32 = 5;
const REFILL: Duration = Duration::from_secs(60);
/// The time after which the same line is worth repeating.
const REPEAT: Duration = Duration::from_secs(3600);

/// Decides which lines are logged.
#[derive(Debug, Default)]
pub(crate) struct Quiet {
    last: Option<(String, Duration)>,
    used: u32,
    /// The time since which `used` counts, by [`crate::kernel::clock::Now::boot`].
    since: Duration,
}

impl Quiet {
    /// `true` if `line` is to be logged at the time `now`.
    pub(crate) fn allows(&mut self, line: &str, now: Duration) -> bool {
        let repeats = |(last, at): &(String, Duration)| last == line && now < *at + REPEAT;
        if self.last.as_ref().is_some_and(repeats) {
            return false;
        }
        let refilled = now.saturating_sub(self.since).as_secs() / REFILL.as_secs();
        if refilled > 0 {
            self.used = self.used.saturating_sub(refilled as u32);
            self.since = now;
        }
        if self.used >= BURST {
            return false;
        }
        self.used += 1;
        self.last = Some((line.to_owned(), now));
        true
    }

    /// The next line is logged even if it is the same as the last one.
    pub(super) fn forget(&mut self) {
        self.last = None;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_storm_is_a_few_lines() {
        let mut quiet = Quiet::default();
        let second = Duration::from_secs(1);
        let logged = (0..1000).filter(|_| quiet.allows("same", second)).count();
        assert_eq!(logged, 1);
        let logged = (0..1000)
            .filter(|it| quiet.allows(&it.to_string(), second))
            .count();
        assert_eq!(logged, BURST as usize - 1);
        assert!(quiet.allows("later", 61 * second) && !quiet.allows("too soon", 62 * second));
        assert!(quiet.allows("much later", 1000 * second));
        assert!(
            !quiet.allows("much later", 2000 * second) && quiet.allows("much later", 5000 * second)
        );
    }
}
