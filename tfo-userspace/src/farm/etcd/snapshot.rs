//! What a farm's keys in etcd hold.

use std::collections::BTreeMap;

use etcd_client::KeyValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// What a host says of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Record {
    /// Tells it from another host of the same name.
    pub instance: String,
    /// Of its tfo.
    pub version: String,
    /// The lease of its present session with etcd.
    pub lease: Option<i64>,
    /// The step that it has in force; see [`crate::farm::phase::Place::step`].
    pub step: Option<u64>,
    /// The fingerprint of the key that its kernel issues.
    pub primary: Option<String>,
    /// Its clock less that of who wrote the document, in seconds.
    pub skew: Option<f64>,
    /// What keeps it from going on.
    pub error: Option<String>,
}

/// A host that runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::farm) struct Candidate {
    pub(in crate::farm) host: String,
}

/// What the leader is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Wish {
    /// A rotation, once no cookie is refused for it that is younger than half an interval.
    Rotate,
    /// A rotation at once.
    RotateNow,
    /// New keys at once, and the old ones refused.
    Revoke,
}

/// A value, and the revision at which it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::farm) struct Stored<T> {
    pub(in crate::farm) value: T,
    pub(in crate::farm) written: i64,
}

/// All of a farm, at one revision.
#[derive(Clone, Debug, Default)]
pub(in crate::farm) struct Snapshot {
    pub(in crate::farm) revision: i64,
    pub(in crate::farm) document: Option<Stored<Vec<u8>>>,
    pub(in crate::farm) hosts: BTreeMap<String, Stored<Record>>,
    pub(in crate::farm) left: BTreeMap<String, Record>,
    /// By the order in which they came: the first leads.
    pub(in crate::farm) candidates: Vec<Stored<Candidate>>,
    pub(in crate::farm) request: Option<Stored<Wish>>,
}

impl Snapshot {
    /// A key was written.
    pub(in crate::farm) fn put(&mut self, prefix: &str, pair: &KeyValue) {
        let Some(name) = name(prefix, pair) else {
            return;
        };
        match name.split_once('/') {
            None if name == "document" => {
                self.document = Some(Stored {
                    value: pair.value().to_vec(),
                    written: pair.mod_revision(),
                });
            }
            None if name == "request" => self.request = stored(pair),
            Some(("hosts", host)) => {
                // Whatever it is, it is no acknowledgement.
                let record = stored(pair).unwrap_or(Stored {
                    value: Record::default(),
                    written: pair.mod_revision(),
                });
                self.hosts.insert(host.to_owned(), record);
            }
            Some(("left", host)) => {
                let record = stored(pair).map(|it| it.value).unwrap_or_default();
                self.left.insert(host.to_owned(), record);
            }
            Some(("election", _)) => {
                if let Some(mut candidate) = stored::<Candidate>(pair) {
                    candidate.written = pair.create_revision();
                    self.candidates.push(candidate);
                }
            }
            _ => {}
        }
    }

    /// A key was removed.
    pub(in crate::farm) fn delete(&mut self, prefix: &str, pair: &KeyValue) {
        let Some(name) = name(prefix, pair) else {
            return;
        };
        match name.split_once('/') {
            None if name == "document" => self.document = None,
            None if name == "request" => self.request = None,
            Some(("hosts", host)) => drop(self.hosts.remove(host)),
            Some(("left", host)) => drop(self.left.remove(host)),
            _ => {}
        }
    }
}

fn name<'a>(prefix: &str, pair: &'a KeyValue) -> Option<&'a str> {
    pair.key_str().ok()?.strip_prefix(prefix)
}

pub(super) fn stored<T: DeserializeOwned>(pair: &KeyValue) -> Option<Stored<T>> {
    Some(Stored {
        value: serde_json::from_slice(pair.value()).ok()?,
        written: pair.mod_revision(),
    })
}
