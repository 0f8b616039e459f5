//! The values of a farm's keys in etcd, and all of them at one revision.

use std::collections::BTreeMap;

use etcd_client::{EventType, KeyValue, WatchResponse};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::farm::{
    document::MAX_HOSTS,
    guard_record::{GuardRecord, readable},
    request::Request,
    seal::{Codec, ValueError},
};

/// Most ignored values that a snapshot names, and most characters of a name. It counts all.
const MAX_NAMED: usize = 16;
const MAX_NAME: usize = 256;
/// Most records and candidates: those of all hosts, and some of hosts that are gone.
const MAX_RECORDS: usize = 2 * MAX_HOSTS;

/// The value of `hosts/NAME`: what a host reports of itself.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct HostRecord {
    /// The farm.
    pub farm: String,
    /// Random; distinguishes it from another host that was given the same name.
    pub instance: String,
    /// The version of its `tfo`.
    pub version: String,
    /// The lease of its session with etcd.
    pub lease: Option<i64>,
    /// The step that it has in force; see [`crate::farm::Position::step`].
    pub step: Option<u64>,
    /// The term in which it acknowledged that step.
    pub term: String,
    /// A host that has stored no document: what the leader has to repeat for it.
    pub challenge: Option<String>,
    /// A host that asks to be admitted: the number of the document that it asks on.
    pub seen: Option<u64>,
    /// The digest of the rules of the own cookies that it takes; see [`crate::model::OwnCookieRules::digest`].
    pub own_cookies: Option<String>,
    /// The fingerprint of the key that its kernel issues cookies with.
    pub primary: Option<String>,
    /// Its clock minus the clock of the host that wrote the document, in seconds.
    pub skew: Option<f64>,
    /// The guard that it has in force; `None` of a version that does not tell.
    #[serde(deserialize_with = "readable")]
    pub guard: Option<GuardRecord>,
    /// Why it does not follow the farm.
    pub error: Option<String>,
}

/// The value of `election/LEASE`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(in crate::farm) struct Candidate {
    pub(in crate::farm) host: String,
}

/// A value, and the revision of etcd at which it was written.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::farm) struct Versioned<T> {
    pub(in crate::farm) value: T,
    pub(in crate::farm) revision: i64,
}

/// All keys of a farm at one revision. Only authentic values are in it; the others are named apart.
#[derive(Clone, Debug, Default)]
pub(in crate::farm) struct FarmSnapshot {
    pub(in crate::farm) revision: i64,
    pub(in crate::farm) document: Option<Versioned<Vec<u8>>>,
    pub(in crate::farm) hosts: BTreeMap<String, HostRecord>,
    /// By the name of their key, with the revision at which it was made: the oldest leads.
    pub(in crate::farm) candidates: BTreeMap<String, Versioned<Candidate>>,
    pub(in crate::farm) request: Option<Versioned<Request>>,
    /// The ignored values by the name of their key, some of them only.
    pub(in crate::farm) ignored: BTreeMap<String, ValueError>,
    /// The number of values that were ignored.
    pub(in crate::farm) ignored_count: u64,
}

impl FarmSnapshot {
    /// Applies what a watch tells.
    pub(in crate::farm) fn apply(&mut self, codec: &Codec, message: &WatchResponse) {
        for event in message.events() {
            match (event.event_type(), event.kv()) {
                (EventType::Put, Some(pair)) => self.put(codec, pair),
                (EventType::Delete, Some(pair)) => self.delete(codec, pair),
                (_, None) => {}
            }
        }
    }

    /// Applies the write of a key.
    pub(in crate::farm) fn put(&mut self, codec: &Codec, pair: &KeyValue) {
        let Some(name) = name(codec, pair) else {
            return;
        };
        self.remove(name);
        let revision = pair.mod_revision();
        let result = match name.split_once('/') {
            None if name == "document" => {
                let value = pair.value().to_vec();
                self.document = Some(Versioned { value, revision });
                Ok(())
            }
            None if name == "request" => parse(codec, name, pair)
                .map(|value| self.request = Some(Versioned { value, revision })),
            Some(("hosts" | "election", _))
                if self.hosts.len() + self.candidates.len() >= MAX_RECORDS =>
            {
                Err(ValueError::Number)
            }
            Some(("hosts", host)) => parse(codec, name, pair)
                .map(|record| drop(self.hosts.insert(host.to_owned(), record))),
            Some(("election", lease)) if format!("{:x}", pair.lease()) != lease => {
                // etcd would not remove it along with the host's lease.
                Err(ValueError::Replayed)
            }
            Some(("election", _)) => {
                let revision = pair.create_revision();
                parse(codec, name, pair).map(|value| {
                    let candidate = Versioned { value, revision };
                    self.candidates.insert(name.to_owned(), candidate);
                })
            }
            _ => Ok(()),
        };
        if let Err(error) = result {
            self.ignore(name, error);
        }
    }

    /// Notes that a value is ignored.
    pub(in crate::farm) fn ignore(&mut self, name: &str, error: ValueError) {
        self.ignored_count += 1;
        let name: &str = &name.chars().take(MAX_NAME).collect::<String>();
        if self.ignored.len() < MAX_NAMED || self.ignored.contains_key(name) {
            self.ignored.insert(name.to_owned(), error);
        }
    }

    /// Applies the removal of a key.
    fn delete(&mut self, codec: &Codec, pair: &KeyValue) {
        if let Some(name) = name(codec, pair) {
            self.remove(name);
        }
    }

    fn remove(&mut self, name: &str) {
        self.ignored.remove(name);
        match name.split_once('/') {
            None if name == "document" => self.document = None,
            None if name == "request" => self.request = None,
            Some(("hosts", host)) => drop(self.hosts.remove(host)),
            Some(("election", _)) => drop(self.candidates.remove(name)),
            _ => {}
        }
    }
}

/// The part of the key after the prefix.
fn name<'a>(codec: &Codec, pair: &'a KeyValue) -> Option<&'a str> {
    pair.key_str().ok()?.strip_prefix(codec.prefix())
}

pub(super) fn parse<T: DeserializeOwned>(
    codec: &Codec,
    name: &str,
    pair: &KeyValue,
) -> Result<T, ValueError> {
    codec.read(name, pair.value())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    /// Records of versions that tell of no guard, or in another way, are read.
    #[test]
    fn a_record_without_a_guard_is_a_record() {
        let earlier = json!({
            "farm": "f", "instance": "i", "version": "0.1.0", "lease": 7, "step": 6, "term": "t", "challenge": null,
            "seen": null, "own_cookies": null, "primary": "5a5a5a5a", "skew": 0.5, "error": null,
        });
        let read = |guard: Option<Value>| {
            let mut record = earlier.clone();
            if let Some(guard) = guard {
                record["guard"] = guard;
            }
            serde_json::from_value::<HostRecord>(record).unwrap()
        };
        let without = read(None);
        assert!(without.step == Some(6) && without.guard.is_none());
        for other in [
            json!(null),
            json!("on"),
            json!({"takes": ["http"]}),
            json!({"options": ["fast_open"]}),
        ] {
            assert_eq!(read(Some(other)), without);
        }
        let with = read(Some(json!({
            "takes": [0, 443], "secret": "5a5a5a5a", "window_scale": 7, "options": ["sack", "ecn"],
            "addresses": ["198.51.100.7/32"], "edges": {"[2001:db8::/48]:443": 9}, "later": 1,
        })));
        let guard = with.guard.clone().unwrap();
        assert!(
            guard.takes == [0, 443].into() && guard.window_scale == 7,
            "{guard:?}"
        );
        assert_eq!(
            guard.edges,
            [("[2001:db8::/48]:443".parse().unwrap(), Some(9))].into()
        );
        let text = serde_json::to_vec(&with).unwrap();
        assert_eq!(serde_json::from_slice::<HostRecord>(&text).unwrap(), with);
    }
}
