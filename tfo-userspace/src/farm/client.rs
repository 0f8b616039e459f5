//! What people ask of a farm: how it stands, and to rotate, to revoke, to begin, to go on without a host.
//!
//! Keys are changed by the leader alone; what is written here is a request to it. Only [`Control::found`] writes a
//! document.

use std::{collections::BTreeSet, time::Duration};

use serde::Serialize;

pub use super::etcd::{Record, Wish};
use super::{
    FarmConfig, FarmError,
    document::{Document, Head},
    etcd::{Snapshot, Store},
    phase::{Phase, Standing},
    report::millis,
    state::{random_id, stored},
};
use crate::{
    kernel::clock::Now,
    keys::{KeyPair, random_key},
};

/// A host of the farm.
#[allow(
    clippy::struct_excessive_bools,
    reason = "each is a remark of its own on the host"
)]
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Member {
    /// What it is called.
    pub name: String,
    /// Whether its service runs and etcd hears of it.
    pub alive: bool,
    /// Whether it is the one that writes.
    pub leads: bool,
    /// Whether a rotation went on without it.
    pub left_behind: bool,
    /// Whether it has in force what the document says.
    pub acknowledged: bool,
    /// Whether its kernel issues another key than the document's.
    pub differs: bool,
    /// What it says of itself.
    #[serde(flatten)]
    pub record: Record,
}

/// How a farm stands.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct FarmStatus {
    /// Where its keys are in etcd.
    pub prefix: String,
    /// What everyone may read of the document.
    pub document: Head,
    /// The step that hosts are to have in force.
    pub step: u64,
    /// What the leader was asked for and has not done yet.
    pub request: Option<Wish>,
    /// Its hosts.
    pub hosts: Vec<Member>,
}

impl FarmStatus {
    /// Whether all hosts have in force what the document says.
    pub fn is_settled(&self) -> bool {
        self.document.phase == Phase::Steady
            && self.request.is_none()
            && self
                .hosts
                .iter()
                .all(|host| host.acknowledged || host.left_behind)
    }
}

/// A connection to a farm's etcd.
pub struct Control {
    config: FarmConfig,
    store: Store,
}

impl Control {
    /// Connects.
    ///
    /// # Errors
    ///
    /// [`FarmError`].
    pub async fn connect(config: &FarmConfig) -> Result<Self, FarmError> {
        Ok(Self {
            config: config.clone(),
            store: Store::connect(config).await?,
        })
    }

    /// How the farm stands.
    ///
    /// # Errors
    ///
    /// [`FarmError`]; also where there is no document.
    pub async fn status(&mut self) -> Result<FarmStatus, FarmError> {
        let snapshot = self.store.read().await?;
        let prefix = &self.config.prefix;
        let Some(document) = &snapshot.document else {
            return Err(FarmError::NoDocument(prefix.clone()));
        };
        let head = Document::head(&document.value)
            .map_err(|error| FarmError::document(&self.config, error))?;
        Ok(FarmStatus {
            prefix: prefix.clone(),
            step: head.place().step(),
            request: snapshot.request.as_ref().map(|request| request.value),
            hosts: members(&snapshot, &head),
            document: head,
        })
    }

    /// Asks the leader for something. It does so within a second, if there is one.
    ///
    /// # Errors
    ///
    /// [`FarmError`].
    pub async fn ask(&mut self, wish: Wish) -> Result<(), FarmError> {
        self.store.ask(wish).await.map(drop)
    }

    /// Has rotations wait for a host no more. `false` where it is not one of the farm's.
    ///
    /// # Errors
    ///
    /// [`FarmError`].
    pub async fn forget(&mut self, host: &str) -> Result<bool, FarmError> {
        self.store.forget(host).await
    }

    /// Founds a farm: with what this host has stored of it, else with the keys that its kernel has, else with
    /// new ones. `None` where there is a document and it is not to be replaced.
    ///
    /// # Errors
    ///
    /// [`FarmError`].
    pub async fn found(
        &mut self,
        kernel: Option<&KeyPair>,
        replace: bool,
    ) -> Result<Option<(Head, Origin)>, FarmError> {
        let seal = self.config.seal()?;
        let (document, origin) = match (stored(&self.config, seal.as_ref()), kernel) {
            (Some(document), _) => (document, Origin::Stored),
            (None, Some(pair)) => (self.first(pair), Origin::Kernel),
            (None, None) => {
                let pair = KeyPair {
                    primary: random_key()?,
                    backup: None,
                };
                (self.first(&pair), Origin::New)
            }
        };
        let text = document
            .write(seal.as_ref())
            .map_err(|error| FarmError::document(&self.config, error))?;
        let founded = self.store.found(&text, replace).await?;
        Ok(founded.then(|| (document.head.clone(), origin)))
    }

    fn first(&self, pair: &KeyPair) -> Document {
        let now = millis(Now::read().wall);
        Document::new(&random_id(), Standing::first(pair), now, &self.config.host)
    }
}

/// Where a farm's first keys come from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Origin {
    /// This host has been one of the farm's before.
    Stored,
    /// They are those that this host's kernel has.
    Kernel,
    /// They are random.
    New,
}

/// How long it may take a leader to be found and to act: a lease, and some.
pub const PATIENCE: Duration = Duration::from_secs(30);

fn members(snapshot: &Snapshot, head: &Head) -> Vec<Member> {
    let mut alive = snapshot.candidates.iter().map(|it| it.value.host.as_str());
    let leader = alive.next();
    let alive: BTreeSet<&str> = alive.chain(leader).collect();
    let here = Some(head.place().step());
    let member = |name: &String, record: &Record, left_behind| Member {
        name: name.clone(),
        alive: alive.contains(name.as_str()),
        leads: leader == Some(name),
        left_behind,
        acknowledged: record.step == here,
        differs: record
            .primary
            .as_ref()
            .is_some_and(|primary| *primary != head.current),
        record: record.clone(),
    };
    let hosts = snapshot.hosts.iter();
    let hosts = hosts.map(|(name, record)| member(name, &record.value, false));
    let left = snapshot.left.iter();
    let left = left.filter(|(name, _)| !snapshot.hosts.contains_key(*name));
    let left = left.map(|(name, record)| member(name, record, true));
    let mut members: Vec<_> = hosts.chain(left).collect();
    members.sort_by(|one, other| one.name.cmp(&other.name));
    members
}
