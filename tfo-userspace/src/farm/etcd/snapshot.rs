//! The values of a farm's keys in etcd, and all of them at one revision.

use std::collections::BTreeMap;

use etcd_client::KeyValue;
use serde::{Deserialize, Serialize, de::DeserializeOwned};

/// The value of `hosts/NAME` and `left/NAME`: what a host reports of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct HostRecord {
    /// Random; distinguishes it from another host that was given the same name.
    pub instance: String,
    /// The version of its `tfo`.
    pub version: String,
    /// The lease of its session with etcd.
    pub lease: Option<i64>,
    /// The step that it has in force; see [`crate::farm::Position::step`].
    pub step: Option<u64>,
    /// The fingerprint of the key that its kernel issues cookies with.
    pub primary: Option<String>,
    /// Its clock minus the clock of the host that wrote the document, in seconds.
    pub skew: Option<f64>,
    /// Why it does not follow the farm.
    pub error: Option<String>,
}

/// The value of `election/LEASE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::farm) struct Candidate {
    pub(in crate::farm) host: String,
}

/// The value of `request`: what an operator asked the leader for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Request {
    /// A rotation, as soon as the retired key has not been issued for half an interval.
    Rotate,
    /// An immediate rotation.
    RotateNow,
    /// An immediate change to a new key; hosts refuse cookies of the old ones.
    Revoke,
}

/// A value, and the revision of etcd at which it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::farm) struct Versioned<T> {
    pub(in crate::farm) value: T,
    pub(in crate::farm) revision: i64,
}

/// All keys of a farm at one revision.
#[derive(Clone, Debug, Default)]
pub(in crate::farm) struct FarmSnapshot {
    pub(in crate::farm) revision: i64,
    pub(in crate::farm) document: Option<Versioned<Vec<u8>>>,
    pub(in crate::farm) hosts: BTreeMap<String, Versioned<HostRecord>>,
    pub(in crate::farm) left_behind: BTreeMap<String, HostRecord>,
    /// Oldest first: the first leads.
    pub(in crate::farm) candidates: Vec<Versioned<Candidate>>,
    pub(in crate::farm) request: Option<Versioned<Request>>,
}

impl FarmSnapshot {
    /// Applies the write of a key.
    pub(in crate::farm) fn put(&mut self, prefix: &str, pair: &KeyValue) {
        let Some(name) = name(prefix, pair) else {
            return;
        };
        match name.split_once('/') {
            None if name == "document" => {
                self.document = Some(Versioned {
                    value: pair.value().to_vec(),
                    revision: pair.mod_revision(),
                });
            }
            None if name == "request" => self.request = parse(pair),
            Some(("hosts", host)) => {
                // A record that cannot be parsed acknowledges nothing.
                let record = parse(pair).unwrap_or(Versioned {
                    value: HostRecord::default(),
                    revision: pair.mod_revision(),
                });
                self.hosts.insert(host.to_owned(), record);
            }
            Some(("left", host)) => {
                let record = parse(pair).map(|it| it.value).unwrap_or_default();
                self.left_behind.insert(host.to_owned(), record);
            }
            Some(("election", _)) => {
                if let Some(mut candidate) = parse::<Candidate>(pair) {
                    candidate.revision = pair.create_revision();
                    self.candidates.push(candidate);
                }
            }
            _ => {}
        }
    }

    /// Applies the removal of a key.
    pub(in crate::farm) fn delete(&mut self, prefix: &str, pair: &KeyValue) {
        let Some(name) = name(prefix, pair) else {
            return;
        };
        match name.split_once('/') {
            None if name == "document" => self.document = None,
            None if name == "request" => self.request = None,
            Some(("hosts", host)) => drop(self.hosts.remove(host)),
            Some(("left", host)) => drop(self.left_behind.remove(host)),
            _ => {}
        }
    }
}

fn name<'a>(prefix: &str, pair: &'a KeyValue) -> Option<&'a str> {
    pair.key_str().ok()?.strip_prefix(prefix)
}

pub(super) fn parse<T: DeserializeOwned>(pair: &KeyValue) -> Option<Versioned<T>> {
    Some(Versioned {
        value: serde_json::from_slice(pair.value()).ok()?,
        revision: pair.mod_revision(),
    })
}
