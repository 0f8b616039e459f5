//! The protocol of a farm's rotation: which keys a host has in force in each phase, and when the farm enters the next.
//! There is no clock, network or file here; the simulation runs these functions.
//!
//! A kernel holds two keys, so two hosts agree as long as each accepts the key that the other issues:
//!
//! | step | phase | hosts issue | hosts also accept |
//! |---|---|---|---|
//! | 2e | activate, then steady | key e | key e-1 |
//! | 2e+1 | stage | key e | key e+1 |
//! | 2e+2 | activate, then steady | key e+1 | key e |
//!
//! Hosts in neighbouring steps accept each other's cookies; hosts further apart do not. Hence the one rule of the
//! protocol: the farm enters the next step only after every member has acknowledged the present one. A key is
//! retired by the step that stages the next key but one.
//!
//! The secrets of own cookies go along: secret e comes and issues with key e. It is taken for longer, as far as the list
//! of a document reaches, so that what holds for keys holds for them.

use std::{cmp::Ordering, fmt};

use serde::{Deserialize, Serialize};
use tfo_common::fastopen::Key;
use zeroize::{Zeroize, ZeroizeOnDrop};

use crate::{keys::GivenSecrets, model::KeyPair};

/// The phases of an epoch, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Phase {
    /// Hosts start to issue the epoch's key, and accept the previous one.
    Activate,
    /// All hosts issue the epoch's key. The previous one is accepted until the next is staged.
    Steady,
    /// Hosts drop the previous key and start to accept the next one, which none issues yet.
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

/// The progress of a farm.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position {
    /// The number of the key that hosts issue.
    pub epoch: u64,
    /// The phase of that epoch.
    pub phase: Phase,
}

impl Position {
    /// The step in the table of this module: equal steps have the same keys in force.
    pub const fn step(self) -> u64 {
        2 * self.epoch + matches!(self.phase, Phase::Stage) as u64
    }

    /// The epoch of the latest secret of own cookies.
    pub const fn last_secret(self) -> u64 {
        self.epoch + matches!(self.phase, Phase::Stage) as u64
    }
}

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "epoch {}, {}", self.epoch, self.phase)
    }
}

/// The progress of a farm, and its keys.
#[derive(Clone, PartialEq, Eq, Zeroize, ZeroizeOnDrop)]
pub struct FarmState {
    /// Epoch and phase.
    #[zeroize(skip)]
    pub position: Position,
    /// The key that hosts issue.
    pub current: Key,
    /// In [`Phase::Stage`] the next key; otherwise the previous one, unless it was revoked.
    pub other: Option<Key>,
    /// The secrets of own cookies by epoch, consecutive, the latest last: that of [`Position::last_secret`]. None in a farm
    /// of an earlier version, until it stages one.
    pub secrets: Vec<Key>,
}

#[cfg(test)]
impl FarmState {
    /// In [`Phase::Steady`].
    pub(super) const fn steady(epoch: u64, current: Key, other: Option<Key>) -> Self {
        let phase = Phase::Steady;
        Self {
            position: Position { epoch, phase },
            current,
            other,
            secrets: Vec::new(),
        }
    }

    /// A host with these keys and secrets takes what one with those of `issuer` issues, of the kernel and of its own.
    pub(super) fn takes_cookies_of(&self, issuer: &Self) -> bool {
        let slot = issuer.position.epoch;
        let own = issuer.own_secrets(true);
        let own = own.get(slot);
        self.pair().keys().any(|key| key == issuer.current)
            && own.is_none_or(|secret| self.own_secrets(true).get(slot) == Some(secret))
    }
}

/// A state that does not follow the one that a host has.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OutOfSequence {
    /// An earlier state, with keys that the farm has retired.
    #[error("it is at {offered}, and this host is already at {held}")]
    Older {
        /// The offered state.
        offered: Position,
        /// The state of this host.
        held: Position,
    },
    /// Other keys at the same position.
    #[error("it has other keys at {0} than this host")]
    Other(Position),
}

impl FarmState {
    /// The first state of a farm, with the keys of one of its hosts, and the first secret of own cookies.
    pub fn first(pair: &KeyPair, secret: Key) -> Self {
        Self {
            position: Position {
                epoch: 1,
                phase: Phase::Activate,
            },
            current: pair.primary,
            other: pair.backup,
            secrets: vec![secret],
        }
    }

    /// The pair that every host is to have in force.
    pub fn pair(&self) -> KeyPair {
        KeyPair {
            primary: self.current,
            backup: self.other,
        }
    }

    /// The secrets of own cookies that every host is to take; `issues` is whether it is to issue cookies, too.
    pub fn own_secrets(&self, issues: bool) -> GivenSecrets {
        GivenSecrets {
            slot: self.position.epoch,
            last: self.position.last_secret(),
            secrets: self.secrets.clone(),
            issues,
        }
    }

    /// See [`Position::step`].
    pub const fn step(&self) -> u64 {
        self.position.step()
    }

    /// The next state, or `None` where the farm stays in this one. `acknowledged` has the step that each member
    /// reports as in force, `due` is whether a rotation is to begin, and `fresh` makes its key and its secret of own cookies.
    ///
    /// # Errors
    ///
    /// Those of `fresh`.
    pub fn advance<E>(
        &self,
        acknowledged: impl IntoIterator<Item = Option<u64>>,
        due: bool,
        mut fresh: impl FnMut() -> Result<Key, E>,
    ) -> Result<Option<Self>, E> {
        let here = Some(self.step());
        if acknowledged.into_iter().any(|step| step != here) {
            return Ok(None);
        }
        let Position { epoch, phase } = self.position;
        let to = |epoch, phase, current, other| Self {
            position: Position { epoch, phase },
            current,
            other,
            secrets: self.secrets.clone(),
        };
        Ok(match (phase, self.other) {
            (Phase::Activate, previous) => Some(to(epoch, Phase::Steady, self.current, previous)),
            (Phase::Steady, _) if due => {
                let mut stage = to(epoch, Phase::Stage, self.current, Some(fresh()?));
                stage.secrets.push(fresh()?);
                let beyond = stage.secrets.len().saturating_sub(GivenSecrets::MAX);
                stage.secrets.drain(..beyond);
                Some(stage)
            }
            (Phase::Stage, Some(next)) => {
                Some(to(epoch + 1, Phase::Activate, next, Some(self.current)))
            }
            (Phase::Steady, _) | (Phase::Stage, None) => None,
        })
    }

    /// The next state after the keys leaked: hosts issue `fresh`, and own cookies by `secret`, at once and accept no other.
    /// No acknowledgement is awaited.
    #[must_use]
    pub fn revoke(&self, fresh: Key, secret: Key) -> Self {
        Self {
            position: Position {
                epoch: self.position.epoch + 1,
                phase: Phase::Activate,
            },
            current: fresh,
            other: None,
            secrets: vec![secret],
        }
    }

    /// `true` if a host in state `held` must take this state; `false` if it already has it.
    ///
    /// # Errors
    ///
    /// [`OutOfSequence`].
    pub fn replaces(&self, held: Option<&Self>) -> Result<bool, OutOfSequence> {
        let Some(held) = held else { return Ok(true) };
        match self.position.cmp(&held.position) {
            Ordering::Less => Err(OutOfSequence::Older {
                offered: self.position,
                held: held.position,
            }),
            Ordering::Equal if self != held => Err(OutOfSequence::Other(self.position)),
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

    /// A state of epoch 4.
    fn state(phase: Phase) -> FarmState {
        FarmState {
            position: Position { epoch: 4, phase },
            current: key(1),
            other: Some(key(2)),
            secrets: vec![key(7)],
        }
    }

    fn advance(state: &FarmState, acknowledged: &[Option<u64>], due: bool) -> Option<FarmState> {
        let fresh = || Ok::<_, Infallible>(key(9));
        let Ok(next) = state.advance(acknowledged.iter().copied(), due, fresh);
        next
    }

    #[test]
    fn a_rotation_has_three_phases() {
        let pair = KeyPair {
            primary: key(1),
            backup: None,
        };
        let first = FarmState::first(&pair, key(8));
        let steady = advance(&first, &[Some(2), Some(2)], false).unwrap();
        assert!(steady.pair() == first.pair() && steady.position.phase == Phase::Steady);
        assert!(advance(&steady, &[Some(2)], false).is_none());
        let stage = advance(&steady, &[Some(2)], true).unwrap();
        assert!(stage.pair().keys().eq([key(1), key(9)]));
        assert!(stage.secrets == [key(8), key(9)]);
        let activate = advance(&stage, &[Some(3)], false).unwrap();
        assert!(activate.pair().keys().eq([key(9), key(1)]));
        let places = [first, steady, stage, activate].map(|it| (it.step(), it.position));
        assert!(places.is_sorted());
        assert_eq!(places.map(|it| it.0), [2, 2, 3, 4]);
    }

    #[test]
    fn one_member_holds_up_all() {
        let stage = state(Phase::Stage);
        for late in [None, Some(8), Some(10)] {
            assert!(advance(&stage, &[Some(9), late, Some(9)], true).is_none());
        }
        assert!(advance(&stage, &[Some(9); 3], true).is_some());
    }

    #[test]
    fn what_leaked_is_accepted_by_no_one() {
        let steady = state(Phase::Steady);
        let revoked = steady.revoke(key(3), key(4));
        assert!(revoked.secrets == [key(4)]);
        assert!(revoked.pair().keys().eq([key(3)]));
        assert_eq!(revoked.replaces(Some(&steady)), Ok(true));
        assert!(steady.replaces(Some(&revoked)).is_err());
        assert_eq!(steady.replaces(Some(&steady)), Ok(false));
        let mut other = steady.clone();
        other.current = key(5);
        let position = steady.position;
        assert_eq!(
            other.replaces(Some(&steady)),
            Err(OutOfSequence::Other(position))
        );
    }

    /// Whatever the age of the farm, its hosts have the secrets of the longest lifetime, and no more.
    #[test]
    fn old_secrets_go() {
        let mut state = state(Phase::Activate);
        for _ in 0..3 * 150 {
            let step = Some(state.step());
            state = advance(&state, &[step], true).unwrap();
            let secrets = state.own_secrets(true);
            assert!(secrets.secrets.len() <= GivenSecrets::MAX);
            assert!(secrets.slot <= secrets.last && secrets.last <= secrets.slot + 1);
        }
        assert_eq!(state.secrets.len(), GivenSecrets::MAX);
    }
}
