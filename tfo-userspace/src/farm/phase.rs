//! The phases of a farm's rotation: what a host has in force in each, and when the farm goes on to the next.
//! There is no clock, no network and no file here; the simulation beside it drives these very lines.
//!
//! A kernel has room for two keys, so two hosts agree as long as each accepts what the other issues:
//!
//! | step | phase | hosts issue | and accept besides |
//! |---|---|---|---|
//! | 2e | activate, then steady | key e | key e-1 |
//! | 2e+1 | stage | key e | key e+1 |
//! | 2e+2 | activate, then steady | key e+1 | key e |
//!
//! Neighbouring steps accept what the other issues, and steps further apart do not. The rule that follows
//! is the whole protocol: the farm goes from a step to the next only when every member has acknowledged that
//! step. A key is retired by the step that stages the next but one.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};
use tfo_common::cookie::Key;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::keys::KeyPair;

/// What the farm is doing, in the order of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Hosts begin to issue the epoch's key, and accept the one before.
    Activate,
    /// All of them do. The key before is accepted until the next is staged.
    Steady,
    /// The key before is retired, and hosts begin to accept the next one. Nobody issues it yet.
    Stage,
}

impl fmt::Display for Phase {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Activate => "activate",
            Self::Steady => "steady",
            Self::Stage => "stage",
        })
    }
}

/// How far the farm has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Place {
    /// The number of the key that is issued.
    pub epoch: u64,
    /// What is being done in it.
    pub phase: Phase,
}

impl Place {
    /// The number of what hosts have in force at this place; see the table above.
    pub const fn step(self) -> u64 {
        2 * self.epoch + matches!(self.phase, Phase::Stage) as u64
    }
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, {}", self.epoch, self.phase)
    }
}

/// How far the farm has come, and with which keys.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct Standing {
    /// How far.
    #[zeroize(skip)]
    pub place: Place,
    /// The key that hosts issue, or are about to.
    pub current: Key,
    /// In [`Phase::Stage`] the key that comes next; else the one before, unless it was revoked.
    pub other: Option<Key>,
}

/// A document that would take a host out of the sequence.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfSequence {
    /// Back to keys that the farm has left behind.
    #[error("it is at {offered}, and this host has gone on to {held}")]
    Older {
        /// Where the document is.
        offered: Place,
        /// Where this host is.
        held: Place,
    },
    /// To other keys at the same place.
    #[error("it has other keys at {0} than this host")]
    Other(Place),
}

impl Standing {
    /// Where a farm begins: with the keys of a host that is in use, or with a new one.
    pub const fn first(pair: &KeyPair) -> Self {
        Self {
            place: Place {
                epoch: 1,
                phase: Phase::Activate,
            },
            current: pair.primary,
            other: pair.backup,
        }
    }

    /// What every host is to have in force.
    pub fn pair(&self) -> KeyPair {
        KeyPair {
            primary: self.current,
            backup: self.other,
        }
    }

    /// See [`Place::step`].
    pub const fn step(&self) -> u64 {
        self.place.step()
    }

    /// Where the farm goes from here, or `None` where it stays. `acknowledged` are the steps that the members
    /// said they have in force, `due` whether a rotation is to begin, and `fresh` makes its key.
    ///
    /// # Errors
    ///
    /// Those of `fresh`.
    pub fn advance<E>(
        &self,
        acknowledged: impl IntoIterator<Item = Option<u64>>,
        due: bool,
        fresh: impl FnOnce() -> Result<Key, E>,
    ) -> Result<Option<Self>, E> {
        let here = Some(self.step());
        if acknowledged.into_iter().any(|step| step != here) {
            return Ok(None);
        }
        let Place { epoch, phase } = self.place;
        let to = |epoch, phase, current, other| {
            Ok(Some(Self {
                place: Place { epoch, phase },
                current,
                other,
            }))
        };
        match (phase, self.other) {
            (Phase::Activate, previous) => to(epoch, Phase::Steady, self.current, previous),
            (Phase::Steady, _) if due => to(epoch, Phase::Stage, self.current, Some(fresh()?)),
            (Phase::Stage, Some(next)) => to(epoch + 1, Phase::Activate, next, Some(self.current)),
            (Phase::Steady, _) | (Phase::Stage, None) => Ok(None),
        }
    }

    /// Where the farm goes when its keys have leaked: to a key that nobody knew, which is issued at once and
    /// accepted alone. Nobody is waited for.
    #[must_use]
    pub const fn revoke(&self, fresh: Key) -> Self {
        Self {
            place: Place {
                epoch: self.place.epoch + 1,
                phase: Phase::Activate,
            },
            current: fresh,
            other: None,
        }
    }

    /// Whether a host that holds `held` is to take this; `false` where it has it already.
    ///
    /// # Errors
    ///
    /// [`OutOfSequence`].
    pub fn replaces(&self, held: Option<&Self>) -> Result<bool, OutOfSequence> {
        let Some(held) = held else { return Ok(true) };
        match self.place.cmp(&held.place) {
            Ordering::Less => Err(OutOfSequence::Older {
                offered: self.place,
                held: held.place,
            }),
            Ordering::Equal if self != held => Err(OutOfSequence::Other(self.place)),
            order => Ok(order.is_gt()),
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;

    const fn key(n: u32) -> Key {
        Key::from_groups([n, 0, 0, 0])
    }

    /// Of the fourth epoch.
    const fn standing(phase: Phase) -> Standing {
        Standing {
            place: Place { epoch: 4, phase },
            current: key(1),
            other: Some(key(2)),
        }
    }

    fn advance(standing: &Standing, acknowledged: &[Option<u64>], due: bool) -> Option<Standing> {
        let fresh = || Ok::<_, Infallible>(key(9));
        let Ok(next) = standing.advance(acknowledged.iter().copied(), due, fresh);
        next
    }

    #[test]
    fn a_rotation_has_three_phases() {
        let first = Standing::first(&KeyPair {
            primary: key(1),
            backup: None,
        });
        let steady = advance(&first, &[Some(2), Some(2)], false).unwrap();
        assert!(steady.pair() == first.pair() && steady.place.phase == Phase::Steady);
        assert!(advance(&steady, &[Some(2)], false).is_none());
        let stage = advance(&steady, &[Some(2)], true).unwrap();
        assert!(stage.pair().keys().eq([key(1), key(9)]));
        let activate = advance(&stage, &[Some(3)], false).unwrap();
        assert!(activate.pair().keys().eq([key(9), key(1)]));
        let places = [first, steady, stage, activate].map(|it| (it.step(), it.place));
        assert!(places.is_sorted());
        assert_eq!(places.map(|it| it.0), [2, 2, 3, 4]);
    }

    #[test]
    fn one_member_holds_up_all() {
        let stage = standing(Phase::Stage);
        for late in [None, Some(8), Some(10)] {
            assert!(advance(&stage, &[Some(9), late, Some(9)], true).is_none());
        }
        assert!(advance(&stage, &[Some(9); 3], true).is_some());
    }

    #[test]
    fn what_leaked_is_accepted_by_no_one() {
        let steady = standing(Phase::Steady);
        let revoked = steady.revoke(key(3));
        assert!(revoked.pair().keys().eq([key(3)]));
        assert_eq!(revoked.replaces(Some(&steady)), Ok(true));
        assert!(steady.replaces(Some(&revoked)).is_err());
        assert_eq!(steady.replaces(Some(&steady)), Ok(false));
        let other = Standing {
            current: key(5),
            ..steady.clone()
        };
        let place = steady.place;
        assert_eq!(
            other.replaces(Some(&steady)),
            Err(OutOfSequence::Other(place))
        );
    }
}
