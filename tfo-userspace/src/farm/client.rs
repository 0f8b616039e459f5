//! The operator's commands: status, rotate, revoke, init and forget.
//!
//! The leader alone changes keys; a command leaves a request for it. Only [`FarmClient::init`] writes a document.

use std::{
    collections::{BTreeMap, BTreeSet},
    time::Duration,
};

use serde::Serialize;

use super::{
    config::FarmConfig,
    document::{Document, DocumentHead},
    error::FarmError,
    etcd::{FarmSnapshot, Store},
    guard_record::Guards,
    host_record::HostRecord,
    phase::{FarmState, Phase},
    report::milliseconds,
    request::{Request, RequestKind, Timing},
    seal::ValueError,
    state_file::{StateFile, fresh_id, random_id},
    verdict::{Verdict, clock_is_off, judge},
};
use crate::{
    kernel::clock::Now,
    model::{EdgeService, KeyPair, random_key},
};

/// The time within which a leader is elected and handles a request: the time of a lease, and some.
pub const LEADER_TIMEOUT: Duration = Duration::from_secs(30);

/// A host of the farm, as etcd shows it.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a separate fact about the host"
)]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct MemberStatus {
    /// Its name in the farm.
    pub name: String,
    /// Its session with etcd is alive.
    pub alive: bool,
    /// `true` for the leader.
    pub leads: bool,
    /// A rotation went on without it.
    pub left_behind: bool,
    /// It asks to be admitted: rotations do not wait for it yet.
    pub joins: bool,
    /// It has acknowledged the present document.
    pub acknowledged: bool,
    /// Its kernel issues another key than the document's.
    pub differs: bool,
    /// Its clock is off by more than half a time slot of challenges: it takes no answers, and none are taken to what it
    /// challenges.
    pub clock_off: bool,
    /// The verdicts about its services, where it is an edge.
    pub edges: BTreeMap<EdgeService, Verdict>,
    /// Its own report.
    #[serde(flatten)]
    pub record: HostRecord,
}

/// The state of a farm.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FarmStatus {
    /// The prefix of its keys in etcd.
    pub prefix: String,
    /// The head of its document.
    pub document: DocumentHead,
    /// The step that every host is to have in force.
    pub step: u64,
    /// The request that the leader has not handled yet.
    pub request: Option<RequestKind>,
    /// Its hosts, by name.
    pub hosts: Vec<MemberStatus>,
    /// Values that no host of the farm wrote, or that are old; hosts ignore them. Some of them, if there are many.
    pub ignored: Vec<IgnoredValue>,
    /// The number of such values.
    pub ignored_count: u64,
}

/// A value in etcd that hosts ignore.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct IgnoredValue {
    /// Its key in etcd.
    pub key: String,
    /// Why it is ignored.
    pub error: String,
}

impl FarmStatus {
    /// `true` if no rotation is in progress or requested, and all hosts have acknowledged the document.
    pub fn is_settled(&self) -> bool {
        self.document.phase == Phase::Steady
            && self.request.is_none()
            && self
                .hosts
                .iter()
                .all(|host| host.acknowledged || host.left_behind)
    }
}

/// A connection to a farm's etcd, for the commands of an operator.
pub struct FarmClient {
    config: FarmConfig,
    store: Store,
}

impl FarmClient {
    /// Connects and authenticates.
    ///
    /// # Errors
    ///
    /// [`FarmError::Etcd`], or [`FarmError::File`] where a file of `[farm]` cannot be read.
    pub async fn connect(config: &FarmConfig) -> Result<Self, FarmError> {
        Ok(Self {
            config: config.clone(),
            store: Store::connect(config).await?,
        })
    }

    /// Reads the state of the farm.
    ///
    /// # Errors
    ///
    /// [`FarmError`]; [`FarmError::NoDocument`] where the farm does not exist.
    pub async fn status(&mut self) -> Result<FarmStatus, FarmError> {
        let mut snapshot = self.store.read().await?;
        let prefix = self.config.prefix.clone();
        let Some(document) = &snapshot.document else {
            return Err(FarmError::NoDocument(prefix));
        };
        let seal = self.config.seal()?;
        let head = Document::read(&document.value, seal.as_ref())
            .map_err(|error| FarmError::document(&prefix, error))?
            .head;
        let request = snapshot.request.as_ref().map(|request| &request.value);
        let stale = request.is_some_and(|request| request.timing(&head) == Timing::Never);
        let request = request
            .filter(|_| !stale)
            .map(|request| request.kind.clone());
        if stale {
            snapshot.ignore("request", ValueError::Replayed);
        }
        let hosts = members(&mut snapshot, &head);
        let ignored = snapshot.ignored.iter().map(|(name, error)| IgnoredValue {
            key: format!("{prefix}{name}"),
            error: error.to_string(),
        });
        Ok(FarmStatus {
            step: head.position().step(),
            request,
            hosts,
            ignored: ignored.collect(),
            ignored_count: snapshot.ignored_count,
            document: head,
            prefix,
        })
    }

    /// Leaves a request for the leader of the farm in the state of `status`.
    ///
    /// # Errors
    ///
    /// [`FarmError::Etcd`].
    pub async fn request(
        &mut self,
        kind: RequestKind,
        status: &FarmStatus,
    ) -> Result<PendingRequest, FarmError> {
        let request = Request::new(kind, &status.document);
        self.store.request(&request).await?;
        Ok(PendingRequest(request))
    }

    /// Creates the farm's document: the one that this host has stored, or else one with the keys of its kernel, or
    /// else one with a new key, which it stores. `None` where there is a document and `replace` is not set.
    ///
    /// # Errors
    ///
    /// [`FarmError`].
    pub async fn init(
        &mut self,
        kernel: Option<&KeyPair>,
        replace: bool,
    ) -> Result<Option<(DocumentHead, KeyOrigin)>, FarmError> {
        let seal = self.config.seal()?;
        let (state_file, stored, _) = StateFile::open(&self.config, seal.as_ref());
        let now = milliseconds(Now::read().wall);
        let (host, term) = (&self.config.host, fresh_id()?);
        let (document, origin) = match (stored, kernel) {
            (Some(stored), _) => {
                let state = stored.state.clone();
                (stored.successor(state, now, host, &term), KeyOrigin::Stored)
            }
            (None, kernel) => {
                let origin = kernel.map_or(KeyOrigin::New, |_| KeyOrigin::Kernel);
                let pair = match kernel {
                    Some(pair) => pair.clone(),
                    None => KeyPair {
                        primary: random_key()?,
                        backup: None,
                    },
                };
                let state = FarmState::first(&pair, random_key()?);
                (
                    Document::first(&random_id(), state, now, host, &term),
                    origin,
                )
            }
        };
        let text = document
            .write(seal.as_ref())
            .map_err(|error| FarmError::document(&self.config.prefix, error))?;
        let created = self.store.create_document(&text, replace).await?;
        if created && origin != KeyOrigin::Stored {
            // Without a host that has stored the document, none could admit the others.
            state_file.write(Some(&text))?;
        }
        Ok(created.then(|| (document.head.clone(), origin)))
    }
}

/// A request that was left for the leader.
pub struct PendingRequest(Request);

impl PendingRequest {
    /// `true` once the farm shows what was asked for.
    pub fn is_fulfilled(&self, status: &FarmStatus) -> bool {
        self.0.is_fulfilled(&status.document)
    }

    /// `true` if the request is still there for the leader.
    pub fn stands(&self, status: &FarmStatus) -> bool {
        status.request.as_ref() == Some(&self.0.kind)
    }
}

/// The origin of the keys in a new document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// The document that this host had stored.
    Stored,
    /// The kernel of this host.
    Kernel,
    /// A new random key.
    New,
}

/// The hosts of the document and those that ask to be admitted, by name.
fn members(snapshot: &mut FarmSnapshot, head: &DocumentHead) -> Vec<MemberStatus> {
    let foreign = |record: &HostRecord| record.farm != head.farm;
    let hosts = snapshot.hosts.iter();
    let foreign: Vec<_> = hosts
        .filter(|it| foreign(it.1))
        .map(|it| it.0.clone())
        .collect();
    for host in foreign {
        snapshot.hosts.remove(&host);
        snapshot.ignore(&format!("hosts/{host}"), ValueError::Replayed);
    }
    let candidates = || snapshot.candidates.values();
    let leader = candidates().min_by_key(|candidate| candidate.revision);
    let leader = leader.map(|candidate| &candidate.value.host);
    let alive: BTreeSet<&String> = candidates().map(|it| &it.value.host).collect();
    let step = Some(head.position().step());
    let asks = snapshot.hosts.iter();
    let asks = asks.filter(|(_, record)| record.seen == Some(head.serial));
    let names: BTreeSet<&String> = head.hosts().chain(asks.map(|(name, _)| name)).collect();
    let guard = |name: &String| snapshot.hosts.get(name)?.guard.clone();
    let guards = head.hosts();
    let guards = guards.filter_map(|name| Some((name.clone(), guard(name)?)));
    let guards: Guards = guards.collect();
    let verdicts = |name: &String| guards.get(name).map(|guard| judge(name, guard, &guards));
    let member = |name: &String| {
        let record = snapshot.hosts.get(name).cloned().unwrap_or_default();
        let is_member = head.members.contains_key(name);
        let left_behind = head.left.contains(name);
        MemberStatus {
            name: name.clone(),
            alive: alive.contains(name),
            leads: leader == Some(name),
            left_behind,
            joins: !is_member && !left_behind,
            acknowledged: is_member && record.step == step && record.term == head.term,
            differs: record
                .primary
                .as_ref()
                .is_some_and(|primary| *primary != head.current),
            clock_off: record.skew.is_some_and(clock_is_off),
            edges: verdicts(name).unwrap_or_default(),
            record,
        }
    };
    names.into_iter().map(member).collect()
}
