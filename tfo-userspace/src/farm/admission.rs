//! The check of documents by a host. Whoever writes to etcd can put an earlier document back, so
//! the authentication of a document does not say that it is the present one. There is no clock,
//! network or file here.
//!
//! A host that has stored a document takes only later ones. One that has stored none publishes a
//! random challenge, and takes a document that names the challenge: the leader wrote it after the
//! challenge. Where no host has stored a document any more, the operator says which epoch is the
//! least that may come into force.

use super::{
    document::{Document, DocumentHead},
    host_record::HostRecord,
    phase::{OutOfSequence, Position},
};

/// The facts by which a host judges documents, besides the one that it has stored.
#[derive(Clone, Copy, Debug)]
pub(super) struct Applicant<'a> {
    /// Its name in the farm.
    pub(super) host: &'a str,
    /// The challenge of its session, if it has stored no document.
    pub(super) challenge: Option<&'a str>,
    /// The operator's least epoch.
    pub(super) least_epoch: Option<u64>,
}

/// Why a host does not take an authentic document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Of another farm.
    #[error("it belongs to another farm than this host")]
    OtherFarm,
    /// Of an epoch before the operator's least.
    #[error("it is at epoch {epoch}, and [farm] least-epoch is {least}")]
    Least {
        /// The document's epoch.
        epoch: u64,
        /// The least epoch.
        least: u64,
    },
    /// This host has stored none, and no leader has answered its challenge.
    #[error("no host of the farm has admitted this one yet")]
    NotAdmitted,
    /// Keys that the farm has retired, or other ones than this host's.
    #[error(transparent)]
    Sequence(#[from] OutOfSequence),
    /// It does not say what became of a member.
    #[error("it does not have the member {0} of this host's document")]
    Member(String),
    /// An earlier list of members, or another one.
    #[error("it is number {offered}, and this host already has number {held} of {position}")]
    Serial {
        /// The number of the offered document.
        offered: u64,
        /// The number of the stored one.
        held: u64,
        /// The position of both.
        position: Position,
    },
}

impl Applicant<'_> {
    /// `true` if a host that has stored `held` must take `offered`; `false` if it already has it.
    ///
    /// # Errors
    ///
    /// [`Refusal`].
    pub(super) fn judge(
        &self,
        held: Option<&Document>,
        offered: &Document,
    ) -> Result<bool, Refusal> {
        let epoch = offered.head.epoch;
        if held.is_some_and(|held| held.head.farm != offered.head.farm) {
            return Err(Refusal::OtherFarm);
        }
        if let Some(least) = self.least_epoch.filter(|least| epoch < *least) {
            return Err(Refusal::Least { epoch, least });
        }
        let Some(held) = held else {
            let answered = offered.head.members.get(self.host).map(String::as_str);
            let answers = self.challenge.is_some() && answered == self.challenge;
            return if answers || self.least_epoch.is_some() {
                Ok(true)
            } else {
                Err(Refusal::NotAdmitted)
            };
        };
        if offered == held {
            return Ok(false);
        }
        // A later position comes first: a leader that was kept from it may have numbered more documents.
        let later = offered.state.replaces(Some(&held.state))?;
        if later {
            return Ok(true);
        }
        if offered.head.serial <= held.head.serial {
            return Err(Refusal::Serial {
                offered: offered.head.serial,
                held: held.head.serial,
                position: offered.state.position,
            });
        }
        // A leader that was kept from the document that admitted a host would not wait for it.
        let mut members = held.head.members.keys();
        match members.find(|host| !offered.head.accounts_for(host)) {
            Some(host) => Err(Refusal::Member(host.clone())),
            None => Ok(true),
        }
    }

    /// Sets what a host's record says of the farm: what it acknowledges, and whether it asks to be admitted. Gives
    /// whether it acknowledges the document in etcd; `None` where it knows no farm yet.
    pub(super) fn report(&self, follows: &Follows<'_>, record: &mut HostRecord) -> Option<bool> {
        let Follows { held, .. } = follows;
        let known = held.map(|held| &held.head).or(follows.applied_to)?;
        let followed = held.filter(|_| follows.is_current);
        let step = followed.map(|document| document.state.step());
        let acknowledges = step.is_some() && follows.in_force == step;
        if acknowledges {
            record.step = step;
            record.term.clone_from(&known.term);
        }
        record.farm.clone_from(&known.farm);
        record.challenge = self.challenge.map(str::to_owned);
        let asks = held.is_none() || (acknowledges && !known.members.contains_key(self.host));
        record.seen = asks.then_some(known.serial);
        Some(acknowledges)
    }
}

/// The documents that a host has, and the one that etcd has for it.
#[derive(Clone, Copy)]
pub(super) struct Follows<'a> {
    /// The stored document.
    pub(super) held: Option<&'a Document>,
    /// It is the one in etcd.
    pub(super) is_current: bool,
    /// The document in etcd, where the host waits to be admitted.
    pub(super) applied_to: Option<&'a DocumentHead>,
    /// The step that it has in force.
    pub(super) in_force: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{farm::phase::FarmState, model::testing::key};

    fn document(epoch: u64, serial: u64, challenge: &str) -> Document {
        let state = FarmState::steady(epoch, key(epoch as u32), None);
        let mut document = Document::first("f", state, 0, "web-1", "t");
        document.head.serial = serial;
        let members = &mut document.head.members;
        members.insert("web-2".to_owned(), challenge.to_owned());
        document
    }

    fn applicant(challenge: Option<&str>, least_epoch: Option<u64>) -> Applicant<'_> {
        Applicant {
            host: "web-2",
            challenge,
            least_epoch,
        }
    }

    #[test]
    fn a_host_without_a_document_takes_the_answer_to_its_challenge() {
        let asks = applicant(Some("new"), None);
        assert_eq!(asks.judge(None, &document(1, 1, "new")), Ok(true));
        // Founded before, and put back.
        for old in ["", "old"] {
            let refused = asks.judge(None, &document(1, 1, old));
            assert_eq!(refused, Err(Refusal::NotAdmitted));
        }
        let silent = applicant(None, None).judge(None, &document(1, 1, ""));
        assert_eq!(silent, Err(Refusal::NotAdmitted));
    }

    #[test]
    fn an_operator_names_the_least_epoch() {
        let least = applicant(Some("new"), Some(3));
        let early = Err(Refusal::Least { epoch: 2, least: 3 });
        assert_eq!(least.judge(None, &document(2, 9, "new")), early);
        assert_eq!(
            least.judge(Some(&document(1, 1, "")), &document(2, 9, "")),
            early
        );
        assert_eq!(least.judge(None, &document(3, 9, "old")), Ok(true));
    }

    #[test]
    fn a_host_with_a_document_never_goes_back() {
        let held = document(2, 5, "");
        let judge = |offered: &Document| applicant(None, None).judge(Some(&held), offered);
        assert_eq!(judge(&held), Ok(false));
        assert_eq!(judge(&document(2, 6, "x")), Ok(true));
        assert_eq!(judge(&document(3, 6, "")), Ok(true));
        assert_eq!(judge(&document(3, 4, "")), Ok(true));
        for (epoch, serial) in [(1, 4), (1, 6), (2, 4), (2, 5)] {
            let refused = judge(&document(epoch, serial, "y"));
            assert!(refused.is_err(), "{epoch} {serial}");
        }
        let mut without = document(2, 6, "");
        without.head.members.clear();
        assert_eq!(judge(&without), Err(Refusal::Member("web-2".to_owned())));
        without.head.left.insert("web-2".to_owned());
        assert_eq!(judge(&without), Ok(true));
        let mut other = document(2, 6, "");
        other.head.farm = "g".to_owned();
        assert_eq!(judge(&other), Err(Refusal::OtherFarm));
    }
}
