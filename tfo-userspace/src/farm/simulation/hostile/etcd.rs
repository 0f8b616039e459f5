//! A simulated etcd: values with revisions, and all that hosts ever wrote.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::farm::seal::Codec;

pub(super) struct Etcd {
    pub(super) codec: Codec,
    pub(super) values: BTreeMap<String, (Vec<u8>, i64)>,
    /// The values that hosts and operators wrote. The enemy has watched them all.
    pub(super) history: Vec<(String, Vec<u8>)>,
    /// All values that the document had, as watches deliver them: none for a deletion.
    pub(super) documents: Vec<(Option<Vec<u8>>, i64)>,
    revision: i64,
}

impl Etcd {
    pub(super) fn new(codec: Codec) -> Self {
        Self {
            codec,
            values: BTreeMap::new(),
            history: Vec::new(),
            documents: Vec::new(),
            revision: 0,
        }
    }

    /// Writes what a host or an operator wrote.
    pub(super) fn put(&mut self, name: &str, value: &[u8]) {
        self.history.push((name.to_owned(), value.to_vec()));
        self.force(name, Some(value.to_vec()));
    }

    /// As [`Self::put`], encoded.
    pub(super) fn put_value(&mut self, name: &str, value: &impl Serialize) {
        let value = self.codec.write(name, value).unwrap();
        self.put(name, &value);
    }

    /// Writes or deletes without a trace in the history.
    pub(super) fn force(&mut self, name: &str, value: Option<Vec<u8>>) {
        self.revision += 1;
        if name == "document" {
            self.documents.push((value.clone(), self.revision));
        }
        match value {
            Some(value) => drop(self.values.insert(name.to_owned(), (value, self.revision))),
            None => drop(self.values.remove(name)),
        }
    }

    /// The serial that the document says it has.
    pub(super) fn document(&self) -> Option<u64> {
        let (value, _) = self.values.get("document")?;
        let value: serde_json::Value = serde_json::from_slice(value).ok()?;
        value["head"]["serial"].as_u64()
    }

    /// The revision of the document.
    pub(super) fn document_revision(&self) -> Option<i64> {
        self.values.get("document").map(|it| it.1)
    }
}
