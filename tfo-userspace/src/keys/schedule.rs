//! Schedules of random keys and of keys derived from a secret. No system call is made here;
//! the caller passes clocks and random keys.
//!
//! The kernel holds two keys. The data path also accepts the staged key, the one of the next change, so that it
//! accepts every key before any host issues cookies with it.

use std::time::Duration;

use tfo_common::fastopen::{Key, KeySet};
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::secret::Secret;
use crate::{kernel::clock::Now, model::KeyPair};

/// The keys that a source wants in force.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct KeyPlan {
    /// The kernel's pair; the data path accepts it too.
    pub pair: KeyPair,
    /// A key that only the data path accepts yet: primary or backup after the next change.
    pub staged: Option<Key>,
}

impl KeyPlan {
    /// The pair, with no key staged.
    pub fn unstaged(pair: &KeyPair) -> Self {
        Self {
            pair: pair.clone(),
            staged: None,
        }
    }

    /// The plan that is in force where the data path accepts `accepted`: its first keys must be the kernel's
    /// `pair`, and a single one more is the staged key.
    pub(super) fn in_force(pair: Option<KeyPair>, accepted: Option<KeySet>) -> Option<Self> {
        let pair = pair?;
        let staged = accepted.and_then(|accepted| {
            match accepted.keys().strip_prefix(pair.to_set().keys())? {
                [staged] => Some(*staged),
                _ => None,
            }
        });
        Some(Self { pair, staged })
    }
}

/// Random keys. Each is staged for one interval, then primary for one, then backup for one.
///
/// The schedule follows `CLOCK_BOOTTIME`. After a suspension of several intervals the keys change once, so that
/// the last primary key is always the backup.
pub(super) struct RandomSchedule {
    interval: Duration,
    in_force: KeyPlan,
    /// The time at which the primary key became primary, by [`Now::boot`].
    since: Duration,
}

impl RandomSchedule {
    /// Resumes with `in_force`, whose primary key became primary at `since`, by [`Now::boot`].
    pub(super) const fn resume(interval: Duration, in_force: KeyPlan, since: Duration) -> Self {
        Self {
            interval,
            in_force,
            since,
        }
    }

    /// The plan for `now`. `fresh` makes a random key where one is to be staged.
    ///
    /// # Errors
    ///
    /// Those of `fresh`.
    pub(super) fn plan<E>(
        &self,
        now: Now,
        fresh: impl FnOnce() -> Result<Key, E>,
    ) -> Result<KeyPlan, E> {
        let KeyPlan { pair, staged } = &self.in_force;
        match staged {
            Some(next) if now.boot >= self.due() => Ok(KeyPlan {
                pair: KeyPair {
                    primary: *next,
                    backup: Some(pair.primary),
                },
                staged: Some(fresh()?),
            }),
            Some(_) => Ok(self.in_force.clone()),
            None => Ok(KeyPlan {
                pair: pair.clone(),
                staged: Some(fresh()?),
            }),
        }
    }

    /// Records that `plan` came into force.
    pub(super) fn installed(&mut self, plan: &KeyPlan, now: Now) {
        if plan.pair.primary != self.in_force.pair.primary {
            self.since = now.boot;
        }
        self.in_force = plan.clone();
    }

    /// The time at which the next key becomes primary, by [`Now::boot`].
    pub(super) fn due(&self) -> Duration {
        self.since + self.interval
    }
}

/// Keys derived from a secret and the real-time clock, changed when tofurkey changes them: in the `n`th interval
/// since 1970, key `n` is primary; key `n-1` is the backup in the first half of the interval, key `n+1` in the
/// second.
///
/// A key thus stays accepted for half an interval after it was primary. After a jump of the clock the last primary
/// key becomes the backup: for half an interval where it is key `n-1` or `n+1`, and for a whole one where it is not,
/// after a long jump or with another secret. A later primary key replaces it as the backup.
pub struct SecretSchedule {
    /// Seconds for which a key is primary.
    interval: u64,
    /// The last primary key, and until when it was primary, by [`Now::boot`].
    last: Option<(Key, Duration)>,
    /// The primary key before `last`, and until when it has to be the backup, by [`Now::boot`].
    held: Option<(Key, Duration)>,
}

impl SecretSchedule {
    /// `last` was primary until `now`, and clients hold cookies of it.
    pub fn new(interval: Duration, last: Option<Key>, now: Now) -> Self {
        Self {
            interval: interval.as_secs().max(1),
            last: last.map(|key| (key, now.boot)),
            held: None,
        }
    }

    /// The plan for `now`.
    pub fn plan(&self, secret: &Secret, now: Now) -> KeyPlan {
        self.step(secret, now).0
    }

    /// Records that the plan for `now` came into force.
    pub fn installed(&mut self, secret: &Secret, now: Now) {
        let (plan, held) = self.step(secret, now);
        self.held = held;
        self.last = Some((plan.pair.primary, now.boot));
    }

    /// The plan for `now`, and the next value of `held`.
    fn step(&self, secret: &Secret, now: Now) -> (KeyPlan, Option<(Key, Duration)>) {
        let mut plan = self.in_sequence(secret, now);
        let KeyPlan { pair, .. } = &mut plan;
        let held = match self.last {
            Some((last, until)) if last != pair.primary => {
                let n = self.interval_at(now).0;
                let neighbours = [secret.key(n.saturating_sub(1)), secret.key(n + 1)];
                let whole = Duration::from_secs(self.interval);
                let limit = if neighbours.contains(&last) {
                    whole / 2
                } else {
                    whole
                };
                Some((last, until + limit))
            }
            _ => self.held,
        };
        let held = held.filter(|(key, until)| *until > now.boot && *key != pair.primary);
        if let Some((key, _)) = held {
            pair.backup = Some(key);
        }
        (plan, held)
    }

    /// tofurkey's plan for `now`, with no regard to what was in force before.
    fn in_sequence(&self, secret: &Secret, now: Now) -> KeyPlan {
        let (n, second_half) = self.interval_at(now);
        let next = secret.key(n + 1);
        let (backup, staged) = if second_half {
            (next, None)
        } else {
            (secret.key(n.saturating_sub(1)), Some(next))
        };
        let primary = secret.key(n);
        KeyPlan {
            pair: KeyPair {
                primary,
                backup: (backup != primary).then_some(backup),
            },
            staged,
        }
    }

    /// The number of the interval since 1970, and whether `now` is in its second half.
    const fn interval_at(&self, now: Now) -> (u64, bool) {
        let seconds = now.wall.as_secs();
        let into = seconds % self.interval;
        (seconds / self.interval, into >= self.interval / 2)
    }

    /// The time until the next half of an interval begins.
    pub fn until_next(&self, now: Now) -> Duration {
        let half = Duration::from_secs((self.interval / 2).max(1));
        let into = now.wall.as_nanos() % half.as_nanos();
        half.saturating_sub(Duration::from_nanos(into as u64))
    }
}
