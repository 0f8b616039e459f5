//! The next change by the leader. There is no clock, network or file here.
//!
//! A leader trusts no acknowledgement of an earlier term: its first document only opens its term.
//! It admits hosts once more than half of the members have acknowledged it, so that a leader that
//! was itself kept from later documents admits none. It changes keys once all members have
//! acknowledged, except for a revocation. Hosts issue own cookies once all members take them by the
//! same rules, and stop when one no longer does.

use std::collections::{BTreeMap, BTreeSet};

use tfo_common::fastopen::Key;

use super::{
    document::{Document, MAX_HOSTS},
    host_record::HostRecord,
    phase::{FarmState, Phase},
    request::{Request, RequestKind, Timing},
};

/// A leader's knowledge of its farm.
pub(super) struct View<'a> {
    /// The document, which is the one in etcd.
    pub(super) document: &'a Document,
    /// The leader's term, and its host.
    pub(super) term: &'a str,
    pub(super) host: &'a str,
    /// The authentic records in etcd, by host.
    pub(super) records: &'a BTreeMap<String, HostRecord>,
    /// The authentic request in etcd.
    pub(super) request: Option<&'a Request>,
    /// The other members that have not acknowledged for longer than the farm's patience.
    pub(super) overdue: &'a BTreeSet<String>,
    /// A rotation is due, given that none is in progress.
    pub(super) due: bool,
}

/// The next document's difference from the present one.
#[derive(Clone, PartialEq, Eq)]
pub(super) enum Change {
    /// Only the term, and the leader as a member.
    Open,
    /// New members, with the challenges that they get answered.
    Admit(BTreeMap<String, String>),
    /// Members that rotations do not wait for any more.
    LeaveBehind(BTreeSet<String>),
    /// A host that is no longer part of the farm.
    Forget(String),
    /// The rules by which hosts issue own cookies, or that they issue none.
    OwnCookies(Option<String>),
    /// Other keys, or another phase.
    Keys(FarmState),
}

impl View<'_> {
    /// The next change; `None` where the farm stays as it is. `fresh` makes a key or a secret.
    ///
    /// # Errors
    ///
    /// Those of `fresh`.
    pub(super) fn decide<E>(
        &self,
        mut fresh: impl FnMut() -> Result<Key, E>,
    ) -> Result<Option<Change>, E> {
        let state = &self.document.state;
        let head = &self.document.head;
        if head.term != self.term {
            return Ok(Some(Change::Open));
        }
        let request = self.request.filter(|it| it.timing(head) == Timing::Now);
        match request.map(|request| &request.kind) {
            Some(RequestKind::Revoke) => {
                return Ok(Some(Change::Keys(state.revoke(fresh()?, fresh()?))));
            }
            Some(RequestKind::Forget(host)) => return Ok(Some(Change::Forget(host.clone()))),
            _ => {}
        }
        if !self.overdue.is_empty() {
            return Ok(Some(Change::LeaveBehind(self.overdue.clone())));
        }
        if !head.members.contains_key(self.host) {
            // Somebody had the farm forget this host: it takes itself in again before it changes anything.
            let ready = self.acknowledged(self.host) == Some(state.step());
            let itself = || BTreeMap::from([(self.host.to_owned(), String::new())]);
            return Ok(ready.then(|| Change::Admit(itself())));
        }
        let newcomers = self.newcomers();
        if !newcomers.is_empty() {
            return Ok(Some(Change::Admit(newcomers)));
        }
        let own_cookies = self.own_cookies();
        if own_cookies.is_some() {
            return Ok(own_cookies);
        }
        let steps = head.members.keys().map(|host| self.acknowledged(host));
        Ok(state.advance(steps, self.due, fresh)?.map(Change::Keys))
    }

    /// The step that a host has acknowledged in this term.
    fn acknowledged(&self, host: &str) -> Option<u64> {
        let record = self.records.get(host)?;
        record.step.filter(|_| record.term == self.term)
    }

    /// Other rules of own cookies than the document's: those that all members take, or none where one takes others.
    fn own_cookies(&self) -> Option<Change> {
        let head = &self.document.head;
        let in_term = |host| self.records.get(host).filter(|it| it.term == self.term);
        let mut taken = head.members.keys().map(in_term);
        let differs = |record: &HostRecord| record.own_cookies != head.own_cookies;
        if head.own_cookies.is_some() && taken.clone().flatten().any(differs) {
            return Some(Change::OwnCookies(None));
        }
        let rules = taken.next()??.own_cookies.clone()?;
        let all = taken
            .all(|record| record.is_some_and(|record| record.own_cookies.as_ref() == Some(&rules)));
        let waits = self.late().next().is_some();
        (all && !waits && head.own_cookies.is_none()).then(|| Change::OwnCookies(Some(rules)))
    }

    /// The members that have not acknowledged the present step.
    pub(super) fn late(&self) -> impl Iterator<Item = &String> {
        let here = Some(self.document.state.step());
        let members = self.document.head.members.keys();
        members.filter(move |host| self.acknowledged(host) != here)
    }

    /// Returns whether more than half of the members that have a document have acknowledged. A
    /// member that has lost its document asks like a new host.
    fn is_confirmed(&self) -> bool {
        let head = &self.document.head;
        let has_none = |host: &String| {
            let record = self.records.get(host);
            record.is_some_and(|it| it.challenge.is_some() && it.seen == Some(head.serial))
        };
        let members = head.members.len();
        let empty = self.late().filter(|host| has_none(host)).count();
        let confirmed = members - self.late().count();
        2 * confirmed > members - empty
    }

    /// The hosts that ask to be admitted, each with its challenge.
    fn newcomers(&self) -> BTreeMap<String, String> {
        let head = &self.document.head;
        if !self.is_confirmed() {
            return BTreeMap::new();
        }
        let here = Some(self.document.state.step());
        let asks = |(host, record): &(&String, &HostRecord)| {
            // The record answers this very document: an earlier one that is put back names an earlier number.
            let fresh = record.seen == Some(head.serial);
            fresh
                && match &record.challenge {
                    Some(challenge) => head.members.get(*host) != Some(challenge),
                    None => !head.members.contains_key(*host) && self.acknowledged(host) == here,
                }
        };
        let room = MAX_HOSTS.saturating_sub(head.members.len() + head.left.len());
        let newcomers = self.records.iter().filter(asks).take(room);
        newcomers
            .map(|(host, record)| (host.clone(), record.challenge.clone().unwrap_or_default()))
            .collect()
    }

    /// The document after `change`. `now` is in milliseconds since 1970.
    pub(super) fn apply(&self, change: Change, now: u64) -> Document {
        let state = match &change {
            Change::Keys(state) => state.clone(),
            _ => self.document.state.clone(),
        };
        let mut next = self.document.successor(state, now, self.host, self.term);
        let head = &mut next.head;
        match change {
            Change::Open => {
                head.left.remove(self.host);
                head.members.entry(self.host.to_owned()).or_default();
            }
            Change::Admit(newcomers) => {
                head.forgotten.retain(|host| !newcomers.contains_key(host));
                head.left.retain(|host| !newcomers.contains_key(host));
                head.members.extend(newcomers);
            }
            Change::LeaveBehind(hosts) => {
                head.members.retain(|host, _| !hosts.contains(host));
                head.left.extend(hosts);
            }
            Change::Forget(host) => {
                head.members.remove(&host);
                head.left.remove(&host);
                head.forgotten.insert(host);
            }
            Change::OwnCookies(rules) => head.own_cookies = rules,
            Change::Keys(_) => {}
        }
        next
    }

    /// Returns whether `change` is what the request asked for; the request is then removed.
    pub(super) fn fulfils(&self, change: &Change) -> bool {
        let Some(request) = self.request else {
            return false;
        };
        match (&request.kind, change) {
            (RequestKind::Forget(_), Change::Forget(_)) => true,
            (RequestKind::Revoke, Change::Keys(state)) => {
                request.timing(&self.document.head) == Timing::Now
                    && state.position.epoch > self.document.head.epoch
            }
            (RequestKind::Rotate | RequestKind::RotateNow, Change::Keys(state)) => {
                request.timing(&self.document.head) == Timing::Now
                    && state.position.phase == Phase::Stage
            }
            _ => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use super::*;
    use crate::model::testing::key;

    struct Farm {
        document: Document,
        records: BTreeMap<String, HostRecord>,
        overdue: BTreeSet<String>,
        request: Option<Request>,
    }

    impl Farm {
        /// Epoch 3, steady; `members` have acknowledged it in the term t.
        fn new(members: &[&str]) -> Self {
            let state = FarmState::steady(3, key(3), Some(key(2)));
            let mut farm = Self {
                document: Document::first("f", state, 0, "a", "t"),
                records: BTreeMap::new(),
                overdue: BTreeSet::new(),
                request: None,
            };
            for host in members {
                let members = &mut farm.document.head.members;
                members.insert((*host).to_owned(), String::new());
                farm.record(host).step = Some(6);
            }
            farm
        }

        fn record(&mut self, host: &str) -> &mut HostRecord {
            let record = self.records.entry(host.to_owned()).or_default();
            "t".clone_into(&mut record.term);
            record
        }

        /// Returns the document that follows the decision of the leader `a` in `term`.
        fn decide_in(&self, term: &str) -> Option<Document> {
            let view = View {
                document: &self.document,
                term,
                host: "a",
                records: &self.records,
                request: self.request.as_ref(),
                overdue: &self.overdue,
                due: true,
            };
            let Ok(change) = view.decide(|| Ok::<_, Infallible>(key(4)));
            change.map(|change| view.apply(change, 5))
        }

        fn decide(&self) -> Option<Document> {
            self.decide_in("t")
        }
    }

    fn phase(document: Option<Document>) -> Option<Phase> {
        document.map(|document| document.head.phase)
    }

    #[test]
    fn acknowledgements_of_another_term_or_step_do_not_count() {
        let mut farm = Farm::new(&["a", "b", "c"]);
        assert_eq!(phase(farm.decide()), Some(Phase::Stage));
        farm.record("b").step = Some(5);
        assert!(farm.decide().is_none());
        farm.record("b").step = Some(6);
        // A new leader first opens its term, and then waits for all.
        let opened = farm.decide_in("u").unwrap();
        assert_eq!((opened.head.term.as_str(), opened.head.serial), ("u", 2));
        assert!(opened.state == farm.document.state);
        farm.document = opened;
        assert!(farm.decide_in("u").is_none());
        for host in ["a", "b", "c"] {
            farm.record(host).term = "u".to_owned();
        }
        assert_eq!(phase(farm.decide_in("u")), Some(Phase::Stage));
        // A member whose record someone removed.
        farm.records.remove("c");
        assert!(farm.decide_in("u").is_none());
    }

    #[test]
    fn a_newcomer_is_admitted_by_an_answer_to_the_present_document() {
        let mut farm = Farm::new(&["a", "b", "c"]);
        let record = farm.record("d");
        (record.seen, record.challenge) = (Some(1), Some("new".to_owned()));
        let next = farm.decide().unwrap();
        assert_eq!(next.head.members["d"], "new");
        assert!(next.state == farm.document.state);
        // Half of the members is not enough.
        farm.record("c").step = None;
        assert!(farm.decide().is_some());
        farm.record("b").step = None;
        assert!(farm.decide().is_none());
        // One that lost its document asks, too, and knows nothing that could contradict.
        let record = farm.record("b");
        (record.seen, record.challenge) = (Some(1), Some("lost".to_owned()));
        farm.records.remove("c");
        farm.document.head.members.remove("c");
        let next = farm.decide().unwrap();
        assert_eq!(
            (next.head.members["b"].as_str(), next.head.members.len()),
            ("lost", 3)
        );
    }

    #[test]
    fn a_record_that_is_put_back_admits_nobody() {
        let mut farm = Farm::new(&["a", "b"]);
        let record = farm.record("ghost");
        (record.seen, record.step) = (Some(0), Some(6));
        assert_eq!(phase(farm.decide()), Some(Phase::Stage));
        // With the number of the present document, but without its keys.
        let record = farm.record("ghost");
        (record.seen, record.step) = (Some(1), Some(5));
        assert_eq!(phase(farm.decide()), Some(Phase::Stage));
        farm.record("ghost").step = Some(6);
        assert!(farm.decide().unwrap().head.members.contains_key("ghost"));
    }

    #[test]
    fn operators_and_patience_go_before_acknowledgements() {
        let mut farm = Farm::new(&["a", "b", "c"]);
        farm.records.clear();
        farm.overdue.insert("b".to_owned());
        let next = farm.decide().unwrap();
        assert!(next.head.left.contains("b") && !next.head.members.contains_key("b"));
        let forget = RequestKind::Forget("c".to_owned());
        farm.request = Some(Request::new(forget, &farm.document.head));
        let next = farm.decide().unwrap();
        assert!(!next.head.members.contains_key("c") && next.head.forgotten.contains("c"));
        farm.request = Some(Request::new(RequestKind::Revoke, &farm.document.head));
        let next = farm.decide().unwrap();
        assert_eq!(next.head.epoch, 4);
        assert!(next.state.other.is_none());
        // Not without a term of its own.
        assert_eq!(farm.decide_in("u").unwrap().head.epoch, 3);
        // Forgotten itself, the leader changes nothing before it is a member again.
        let mut farm = Farm::new(&["b"]);
        assert!(farm.decide().is_none());
        farm.record("a").step = Some(6);
        assert!(farm.decide().unwrap().head.members.contains_key("a"));
    }

    /// No host issues own cookies that a member does not take.
    #[test]
    fn own_cookies_are_issued_once_all_members_take_them() {
        let mut farm = Farm::new(&["a", "b", "c"]);
        let rules = |name: &str| Some(name.to_owned());
        let issued = |farm: &Farm| farm.decide().unwrap().head.own_cookies;
        farm.record("a").own_cookies = rules("r");
        farm.record("b").own_cookies = rules("r");
        assert_eq!(issued(&farm), None);
        farm.record("c").own_cookies = rules("q");
        assert_eq!(issued(&farm), None);
        farm.record("c").own_cookies = rules("r");
        farm.record("c").step = Some(5);
        assert!(farm.decide().is_none());
        farm.record("c").step = Some(6);
        assert_eq!(issued(&farm), rules("r"));
        farm.document = farm.decide().unwrap();
        assert_eq!(phase(farm.decide()), Some(Phase::Stage));
        // One that is late, or of which nothing is known in this term, took them before.
        farm.record("b").step = None;
        assert!(farm.decide().is_none());
        farm.record("b").term = "u".to_owned();
        assert!(farm.decide().is_none());
        for other in [None, rules("q")] {
            farm.record("b").term = "t".to_owned();
            farm.record("b").own_cookies = other;
            assert_eq!(issued(&farm), None);
        }
    }
}
