//! Requests of an operator to the leader.
//!
//! A request names the state of the farm that it is for, so that each is fulfilled once: a rotation and a revocation
//! end their epoch, and one that is put back afterwards is for an epoch that is over. Revoking and forgetting take
//! effect without acknowledgements, so they also name the leader's term.

use serde::{Deserialize, Serialize};

use super::{document::DocumentHead, phase::Phase};

/// The kind of an operator's request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum RequestKind {
    /// A rotation, as soon as the retired key has not been issued for half an interval.
    Rotate,
    /// An immediate rotation.
    RotateNow,
    /// An immediate change to a new key; hosts refuse cookies of the old ones.
    Revoke,
    /// The removal of a host from the farm.
    Forget(String),
}

/// The value of `request`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Request {
    pub(super) kind: RequestKind,
    /// The farm.
    farm: String,
    /// The epoch that it ends.
    epoch: u64,
    /// The term of the leader that is to fulfil it; `None` for a rotation, which may wait for long.
    term: Option<String>,
}

/// The time at which a request is due.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Timing {
    Now,
    /// In the epoch that begins next.
    Later,
    /// It was fulfilled, or is for another state of the farm.
    Never,
}

impl Request {
    /// A request for the farm in the state of `document`.
    pub(super) fn new(kind: RequestKind, document: &DocumentHead) -> Self {
        let rotates = matches!(kind, RequestKind::Rotate | RequestKind::RotateNow);
        // A rotation that is in progress is not the one that is asked for.
        let epoch = document.epoch + u64::from(rotates && document.phase == Phase::Stage);
        Self {
            kind,
            farm: document.farm.clone(),
            epoch,
            term: (!rotates).then(|| document.term.clone()),
        }
    }

    /// Returns when the request is due for the farm in the state of `document`.
    pub(super) fn timing(&self, document: &DocumentHead) -> Timing {
        let for_term = self.term.as_ref().is_none_or(|term| *term == document.term);
        if self.farm != document.farm || !for_term {
            return Timing::Never;
        }
        let rotates = matches!(self.kind, RequestKind::Rotate | RequestKind::RotateNow);
        let stage = document.phase == Phase::Stage;
        match self.epoch.checked_sub(document.epoch) {
            Some(0) if rotates && stage => Timing::Never,
            Some(0) => Timing::Now,
            Some(1) if rotates && stage => Timing::Later,
            _ => Timing::Never,
        }
    }

    /// `true` once the farm in the state of `document` shows what was asked for.
    pub(super) fn is_fulfilled(&self, document: &DocumentHead) -> bool {
        match &self.kind {
            RequestKind::Rotate | RequestKind::RotateNow => {
                document.epoch > self.epoch
                    || (document.epoch == self.epoch && document.phase == Phase::Stage)
            }
            RequestKind::Revoke => document.epoch > self.epoch,
            RequestKind::Forget(host) => {
                !document.members.contains_key(host) && !document.left.contains(host)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        farm::{
            document::Document,
            phase::{FarmState, Position},
        },
        model::testing::key,
    };

    fn head(epoch: u64, phase: Phase, term: &str) -> DocumentHead {
        let state = FarmState {
            position: Position { epoch, phase },
            current: key(1),
            other: Some(key(2)),
            secrets: Vec::new(),
        };
        Document::first("f", state, 0, "web-1", term).head
    }

    #[test]
    fn a_rotation_is_for_one_epoch() {
        let request = Request::new(RequestKind::RotateNow, &head(3, Phase::Activate, "t"));
        for (epoch, phase, expected) in [
            (2, Phase::Stage, Timing::Later),
            (2, Phase::Steady, Timing::Never),
            (3, Phase::Activate, Timing::Now),
            (3, Phase::Steady, Timing::Now),
            (3, Phase::Stage, Timing::Never),
            (4, Phase::Activate, Timing::Never),
        ] {
            let now = head(epoch, phase, "later");
            assert_eq!(request.timing(&now), expected, "{epoch} {phase}");
            let fulfilled = (epoch, phase) >= (3, Phase::Stage);
            assert_eq!(request.is_fulfilled(&now), fulfilled, "{epoch} {phase}");
        }
        let next = Request::new(RequestKind::Rotate, &head(3, Phase::Stage, "t"));
        assert_eq!(next.timing(&head(3, Phase::Stage, "t")), Timing::Later);
        assert_eq!(next.timing(&head(4, Phase::Steady, "t")), Timing::Now);
    }

    #[test]
    fn a_revocation_is_for_one_epoch_of_one_term() {
        let request = Request::new(RequestKind::Revoke, &head(3, Phase::Stage, "t"));
        assert_eq!(request.timing(&head(3, Phase::Stage, "t")), Timing::Now);
        for other in [
            head(3, Phase::Stage, "u"),
            head(4, Phase::Activate, "t"),
            head(2, Phase::Stage, "t"),
        ] {
            assert_eq!(request.timing(&other), Timing::Never);
        }
        let mut elsewhere = head(3, Phase::Stage, "t");
        elsewhere.farm = "g".to_owned();
        assert_eq!(request.timing(&elsewhere), Timing::Never);
    }
}
