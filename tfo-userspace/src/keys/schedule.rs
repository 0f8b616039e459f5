//! Which keys are to be in force when. No system call is made here: the clocks and the random numbers
//! come from the caller.
//!
//! The kernel has room for two keys, and the data path for those of the change that comes next besides:
//! a key is accepted there before anything issues cookies with it, and after.

use std::time::Duration;

use tfo_common::cookie::Key;
use zeroize::{Zeroize, ZeroizeOnDrop};

use super::{KeyPair, Secret};
use crate::kernel::clock::Now;

/// The keys that are to be in force at a moment.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Plan {
    /// The kernel's.
    pub pair: KeyPair,
    /// Accepted by the data path besides: primary or backup after the next change.
    pub staged: Option<Key>,
}

/// Keys that are made here: each is staged for an interval, then primary for one, then the backup for one.
///
/// It goes by the clock that nobody sets. A machine that was suspended for several intervals changes
/// once, so that the key which was primary last is always the backup.
pub struct RandomSchedule {
    /// How long a key is primary.
    pub interval: Duration,
    now: Plan,
    since: Duration,
}

impl RandomSchedule {
    /// Goes on with what is in force since `since`, by [`Now::boot`].
    pub const fn resume(interval: Duration, in_force: Plan, since: Duration) -> Self {
        Self {
            interval,
            now: in_force,
            since,
        }
    }

    /// What is to be in force. `fresh` makes a key, where one is needed.
    ///
    /// # Errors
    ///
    /// Those of `fresh`.
    pub fn plan<E>(&self, now: Now, fresh: impl FnOnce() -> Result<Key, E>) -> Result<Plan, E> {
        match self.now.staged {
            Some(next) if now.boot >= self.due() => Ok(Plan {
                pair: KeyPair {
                    primary: next,
                    backup: Some(self.now.pair.primary),
                },
                staged: Some(fresh()?),
            }),
            Some(_) => Ok(self.now.clone()),
            None => Ok(Plan {
                pair: self.now.pair.clone(),
                staged: Some(fresh()?),
            }),
        }
    }

    /// What was planned is in force now.
    pub fn done(&mut self, plan: &Plan, now: Now) {
        if plan.pair.primary != self.now.pair.primary {
            self.since = now.boot;
        }
        self.now = plan.clone();
    }

    /// When the next key becomes primary, by [`Now::boot`].
    pub fn due(&self) -> Duration {
        self.since + self.interval
    }
}

/// Keys that follow from a secret and the clock on the wall, at the times at which tofurkey changes them:
/// in the `n`th interval since 1970, key `n` is primary; in its first half key `n-1` is the backup, in
/// its second half key `n+1`.
///
/// So a key stays accepted for half an interval after it was primary. Where the clock jumps, the one that
/// was primary until then is the backup for as long; where it is out of that sequence, since the jump is a
/// long one or the secret another, for a whole interval. What was primary later makes it give way.
pub struct SecretSchedule {
    /// How long a key is primary, in seconds.
    interval: u64,
    /// The key that was primary last, and until when by [`Now::boot`].
    last: Option<(Key, Duration)>,
    /// The key that was primary before that one, and until when it has to be the backup.
    held: Option<(Key, Duration)>,
}

impl SecretSchedule {
    /// Begins. `last` has been primary until now, and clients hold its cookies.
    pub fn new(interval: Duration, last: Option<Key>, now: Now) -> Self {
        Self {
            interval: interval.as_secs().max(1),
            last: last.map(|key| (key, now.boot)),
            held: None,
        }
    }

    /// What is to be in force.
    pub fn plan(&self, secret: &Secret, now: Now) -> Plan {
        self.step(secret, now).0
    }

    /// What was planned is in force now.
    pub fn done(&mut self, secret: &Secret, now: Now) {
        let (plan, held) = self.step(secret, now);
        self.held = held;
        self.last = Some((plan.pair.primary, now.boot));
    }

    /// The plan, and the key that it holds.
    fn step(&self, secret: &Secret, now: Now) -> (Plan, Option<(Key, Duration)>) {
        let mut plan = self.in_sequence(secret, now);
        let Plan { pair, .. } = &mut plan;
        let held = match self.last {
            Some((last, until)) if last != pair.primary => {
                let n = self.place(now).0;
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

    fn in_sequence(&self, secret: &Secret, now: Now) -> Plan {
        let (n, late) = self.place(now);
        let next = secret.key(n + 1);
        let (backup, staged) = if late {
            (next, None)
        } else {
            (secret.key(n.saturating_sub(1)), Some(next))
        };
        let primary = secret.key(n);
        Plan {
            pair: KeyPair {
                primary,
                backup: (backup != primary).then_some(backup),
            },
            staged,
        }
    }

    /// The number of the interval, and whether it is in its second half.
    const fn place(&self, now: Now) -> (u64, bool) {
        let seconds = now.wall.as_secs();
        let into = seconds % self.interval;
        (seconds / self.interval, into >= self.interval / 2)
    }

    /// How long it is until the next half begins.
    pub fn next(&self, now: Now) -> Duration {
        let half = Duration::from_secs((self.interval / 2).max(1));
        let into = now.wall.as_nanos() % half.as_nanos();
        half.saturating_sub(Duration::from_nanos(into as u64))
    }
}
