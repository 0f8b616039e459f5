//! The values of a farm's keys in etcd, and all of them at one revision.

use std::collections::BTreeMap;

use etcd_client::{EventType, KeyValue, WatchResponse};
use serde::{Deserialize, Serialize, de::DeserializeOwned};

use crate::farm::{
    document::MAX_HOSTS,
    host_record::HostRecord,
    request::Request,
    seal::{Codec, ValueError},
};

/// Most ignored values that a snapshot names, and most characters of a name. It counts all.
const MAX_NAMED: usize = 16;
const MAX_NAME: usize = 256;
/// Most records and candidates: those of all hosts, and some of hosts that are gone.
const MAX_RECORDS: usize = 2 * MAX_HOSTS;

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
