//! The operator's commands: status, rotate, revoke, init and forget.
//!
//! The leader alone changes keys; a command leaves a request for it. Only [`FarmClient::init`] writes a document.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;

use super::{
    config::FarmConfig,
    document::{Document, DocumentHead},
    error::FarmError,
    etcd::{FarmSnapshot, HostRecord, Request, Store},
    phase::{FarmState, Phase},
    report::milliseconds,
    state_file::{StateFile, random_id},
};
use crate::{
    kernel::clock::Now,
    model::{KeyPair, random_key},
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
    /// It has acknowledged the present document.
    pub acknowledged: bool,
    /// Its kernel issues another key than the document's.
    pub differs: bool,
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
    pub request: Option<Request>,
    /// Its hosts, by name.
    pub hosts: Vec<MemberStatus>,
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
        let snapshot = self.store.read().await?;
        let prefix = &self.config.prefix;
        let Some(document) = &snapshot.document else {
            return Err(FarmError::NoDocument(prefix.clone()));
        };
        let head = Document::read_head(&document.value)
            .map_err(|error| FarmError::document(&self.config.prefix, error))?;
        Ok(FarmStatus {
            prefix: prefix.clone(),
            step: head.position().step(),
            request: snapshot.request.as_ref().map(|request| request.value),
            hosts: members(&snapshot, &head),
            document: head,
        })
    }

    /// Leaves a request for the leader, which handles it within a second.
    ///
    /// # Errors
    ///
    /// [`FarmError::Etcd`].
    pub async fn request(&mut self, request: Request) -> Result<(), FarmError> {
        self.store.request(request).await.map(drop)
    }

    /// Removes a host, so that no rotation waits for it. `false` where there is none of that name.
    ///
    /// # Errors
    ///
    /// [`FarmError::Etcd`].
    pub async fn forget(&mut self, host: &str) -> Result<bool, FarmError> {
        self.store.forget(host).await
    }

    /// Creates the farm's document: the one that this host has stored, or else one with the keys of its kernel, or
    /// else one with a new key. `None` where there is a document and `replace` is not set.
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
        let (document, origin) = match (
            StateFile::stored_document(&self.config, seal.as_ref()),
            kernel,
        ) {
            (Some(document), _) => (document, KeyOrigin::Stored),
            (None, Some(pair)) => (self.first_document(pair), KeyOrigin::Kernel),
            (None, None) => {
                let pair = KeyPair {
                    primary: random_key()?,
                    backup: None,
                };
                (self.first_document(&pair), KeyOrigin::New)
            }
        };
        let text = document
            .write(seal.as_ref())
            .map_err(|error| FarmError::document(&self.config.prefix, error))?;
        let created = self.store.create_document(&text, replace).await?;
        Ok(created.then(|| (document.head.clone(), origin)))
    }

    fn first_document(&self, pair: &KeyPair) -> Document {
        let now = milliseconds(Now::read().wall);
        Document::new(&random_id(), FarmState::first(pair), now, &self.config.host)
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

/// All hosts in the snapshot, by name.
fn members(snapshot: &FarmSnapshot, head: &DocumentHead) -> Vec<MemberStatus> {
    let mut alive = snapshot.candidates.iter().map(|it| it.value.host.as_str());
    let leader = alive.next();
    let alive: BTreeSet<&str> = alive.chain(leader).collect();
    let step = Some(head.position().step());
    let member = |name: &String, record: &HostRecord, left_behind| MemberStatus {
        name: name.clone(),
        alive: alive.contains(name.as_str()),
        leads: leader == Some(name),
        left_behind,
        acknowledged: record.step == step,
        differs: record
            .primary
            .as_ref()
            .is_some_and(|primary| *primary != head.current),
        record: record.clone(),
    };
    let hosts = snapshot.hosts.iter();
    let hosts = hosts.map(|(name, record)| member(name, &record.value, false));
    let left = snapshot.left_behind.iter();
    let left = left.filter(|(name, _)| !snapshot.hosts.contains_key(*name));
    let left = left.map(|(name, record)| member(name, record, true));
    let mut members: Vec<_> = hosts.chain(left).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    members
}
