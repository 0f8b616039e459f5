//! A simulated host. It decides with the code of the real one.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use tfo_common::fastopen::Key;

use super::etcd::Etcd;
use crate::{
    farm::{
        admission::{Applicant, Follows, Refusal},
        decision::{Change, View},
        document::{Document, DocumentHead},
        host_record::HostRecord,
        leader::{HeldDocument, is_due},
        phase::{FarmState, Position},
        request::Request,
        state_file::fresh_id,
    },
    kernel::clock::Now,
    keys::Secret,
};

/// Hosts. Three are members at the beginning, and the last one joins.
pub(super) const HOSTS: usize = 4;

/// A deliberate weakness, which the simulation must detect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Weakness {
    None,
    /// Nothing is sealed.
    NoSeal,
    /// A host that has stored nothing takes any authentic document.
    NoChallenge,
    /// A host takes any authentic document of its farm.
    NoOrder,
    /// The leader has hosts issue own cookies, whoever takes them.
    NoConsent,
}

const INTERVAL: Duration = Duration::from_secs(200);
/// Late hosts are left behind by operators alone here: waiting for longer than the farm's patience is allowed to do harm.
const NOBODY: &BTreeSet<String> = &BTreeSet::new();

/// A session with etcd.
struct Session {
    challenge: Option<String>,
    /// The farm's position when the session began: a host without a document must not take an
    /// earlier state.
    floor: Position,
    /// The next document of the watch.
    next: usize,
    /// The revision of the document in etcd, where that is the stored one.
    revision: Option<i64>,
    applied_to: Option<DocumentHead>,
    record: HostRecord,
    leads: Option<Term>,
}

struct Term {
    id: String,
    opened: bool,
}

#[derive(Default)]
pub(super) struct Host {
    pub(super) name: String,
    /// Seconds that the clock is ahead.
    skew: u64,
    pub(super) disk: Option<Document>,
    since: Duration,
    pub(super) kernel: Option<FarmState>,
    /// It has put a document in force that has it as a member, and has been told of no other since.
    pub(super) serves: bool,
    /// Own cookies are configured, so that it takes them; and it issues them.
    pub(super) takes_own: bool,
    pub(super) issues_own: bool,
    session: Option<Session>,
    /// A record that has not arrived in etcd yet.
    sent: Option<HostRecord>,
    /// The violation that this host committed.
    pub(super) problem: Option<String>,
}

/// A document that a leader wrote.
pub(super) struct Commit {
    pub(super) next: Document,
    /// It admits a host that has stored nothing.
    pub(super) admitted: bool,
}

impl Host {
    pub(super) fn new(name: &str, disk: Option<Document>, skew: u64) -> Self {
        Self {
            name: name.to_owned(),
            skew,
            kernel: disk.as_ref().map(|disk| disk.state.clone()),
            serves: disk.is_some(),
            disk,
            ..Self::default()
        }
    }

    /// Begins a session, unless there is one.
    pub(super) fn connect(&mut self, etcd: &Etcd, floor: Position) {
        if self.session.is_some() {
            return;
        }
        self.session = Some(Session {
            challenge: self.disk.is_none().then(|| fresh_id().unwrap()),
            floor,
            next: etcd.documents.len() - 1,
            revision: None,
            applied_to: None,
            record: HostRecord::default(),
            leads: None,
        });
    }

    pub(super) fn disconnect(&mut self) {
        self.session = None;
    }

    /// The process ends; `cold`, its machine too, and the kernel loses its keys.
    pub(super) fn stop(&mut self, cold: bool) {
        self.session = None;
        if cold {
            self.kernel = None;
            self.serves = false;
            self.issues_own = false;
        }
    }

    pub(super) fn leads(&self) -> bool {
        self.session.as_ref().is_some_and(|it| it.leads.is_some())
    }

    pub(super) fn elect(&mut self) {
        if let Some(session) = &mut self.session {
            session.leads = Some(Term {
                id: fresh_id().unwrap(),
                opened: false,
            });
        }
    }

    pub(super) fn elect_unless_leading(&mut self) {
        if !self.leads() {
            self.elect();
        }
    }

    /// Handles the next document of the watch.
    pub(super) fn receive(
        &mut self,
        etcd: &Etcd,
        seal: Option<&Secret>,
        weakness: Weakness,
        time: Duration,
    ) {
        let Some(session) = &mut self.session else {
            return;
        };
        let Some((value, revision)) = etcd.documents.get(session.next) else {
            return;
        };
        session.next += 1;
        (session.revision, session.applied_to) = (None, None);
        let Some(value) = value else { return };
        let Ok(document) = Document::read(value, seal) else {
            return;
        };
        let applicant = Applicant {
            host: &self.name,
            challenge: session.challenge.as_deref(),
            least_epoch: (weakness == Weakness::NoChallenge).then_some(0),
        };
        let judged = match weakness {
            Weakness::NoOrder => Ok(self.disk.as_ref() != Some(&document)),
            _ => applicant.judge(self.disk.as_ref(), &document),
        };
        match judged {
            Ok(takes) => {
                session.revision = Some(*revision);
                if takes {
                    self.store(document, time);
                }
            }
            Err(Refusal::NotAdmitted) => session.applied_to = Some(document.head),
            Err(_) => {}
        }
    }

    fn store(&mut self, document: Document, time: Duration) {
        let held = self.disk.as_ref().map(|disk| disk.state.position);
        if held.is_some_and(|held| held > document.state.position) {
            self.problem = Some(format!("{held:?} gave way to {}", document.state.position));
        }
        let position = document.state.position;
        if let Some(session) = self.session.as_ref().filter(|_| held.is_none())
            && position < session.floor
        {
            self.problem = Some(format!("joined at {position}, after {}", session.floor));
        }
        if held != Some(position) {
            self.since = time;
        }
        self.disk = Some(document);
        if let Some(session) = &mut self.session {
            session.challenge = None;
        }
    }

    /// The keeper installs what is stored.
    pub(super) fn put_in_force(&mut self) {
        let Some(disk) = &self.disk else { return };
        self.kernel = Some(disk.state.clone());
        self.serves = disk.head.members.contains_key(&self.name);
        self.issues_own = self.takes_own && disk.head.own_cookies.is_some();
    }

    /// Sends the record where it changed.
    pub(super) fn publish(&mut self, etcd: &mut Etcd) {
        let Some(session) = &mut self.session else {
            return;
        };
        let applicant = Applicant {
            host: &self.name,
            challenge: session.challenge.as_deref(),
            least_epoch: None,
        };
        let in_force = self.kernel.as_ref().filter(|state| {
            let held = self.disk.as_ref();
            held.is_some_and(|disk| disk.state.pair() == state.pair())
        });
        let follows = Follows {
            held: self.disk.as_ref(),
            is_current: session.revision.is_some(),
            applied_to: session.applied_to.as_ref(),
            in_force: in_force
                .and(self.disk.as_ref())
                .map(|disk| disk.state.step()),
        };
        let mut record = session.record.clone();
        applicant.report(&follows, &mut record);
        record.own_cookies = self.takes_own.then(|| "rules".to_owned());
        let name = format!("hosts/{}", self.name);
        let differs = etcd.values.get(&name).is_none_or(|(value, _)| {
            etcd.codec.read::<HostRecord>(&name, value).ok() != Some(record.clone())
        });
        if differs {
            session.record = record.clone();
            self.deliver(etcd);
            self.sent = Some(record);
        }
    }

    /// A record arrives, even if its process is no more.
    pub(super) fn deliver(&mut self, etcd: &mut Etcd) {
        if let Some(record) = self.sent.take() {
            etcd.put_value(&format!("hosts/{}", self.name), &record);
        }
    }

    /// Writes the next document, if this host leads and one is due.
    pub(super) fn lead(
        &mut self,
        etcd: &mut Etcd,
        seal: Option<&Secret>,
        weakness: Weakness,
        (time, fresh): (Duration, Key),
    ) -> Option<Commit> {
        let session = self.session.as_mut()?;
        let term = session.leads.as_mut()?;
        let (document, revision) = (self.disk.as_ref()?, session.revision?);
        // etcd refuses the write where the document has changed.
        if etcd.document_revision() != Some(revision) {
            return None;
        }
        if term.opened && document.head.term != term.id {
            session.leads = None;
            return None;
        }
        term.opened |= document.head.term == term.id;
        let records = records(etcd, document);
        let request: Option<Request> = etcd
            .values
            .get("request")
            .and_then(|(value, _)| etcd.codec.read("request", value).ok());
        let held = HeldDocument {
            document,
            revision,
            since: self.since,
        };
        let now = Now {
            wall: time + Duration::from_secs(self.skew),
            boot: time,
        };
        let view = View {
            document,
            term: &term.id,
            host: &self.name,
            records: &records,
            request: request.as_ref(),
            overdue: NOBODY,
            due: is_due(&held, request.as_ref(), INTERVAL, now),
        };
        let Ok(change) = view.decide(|| Ok::<_, std::convert::Infallible>(fresh));
        let change = change?;
        let admitted =
            matches!(&change, Change::Admit(hosts) if hosts.values().any(|it| !it.is_empty()));
        let fulfils = view.fulfils(&change);
        let mut next = view.apply(change, now.wall.as_millis() as u64);
        if weakness == Weakness::NoConsent {
            next.head.own_cookies = Some("rules".to_owned());
        }
        etcd.put("document", next.write(seal).unwrap().as_bytes());
        if fulfils {
            etcd.force("request", None);
        }
        Some(Commit { next, admitted })
    }
}

/// The authentic records in etcd.
fn records(etcd: &Etcd, document: &Document) -> BTreeMap<String, HostRecord> {
    let hosts = etcd.values.iter().filter_map(|(name, (value, _))| {
        let record: HostRecord = etcd.codec.read(name, value).ok()?;
        let host = name.strip_prefix("hosts/")?.to_owned();
        (record.farm == document.head.farm).then_some((host, record))
    });
    hosts.collect()
}
