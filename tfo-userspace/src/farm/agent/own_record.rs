//! The state of this host's record in etcd, as a session knows it.

use etcd_client::WatchResponse;

use crate::farm::host_record::HostRecord;

/// The record as this session wrote it.
pub(super) struct OwnRecord {
    pub(super) lease: i64,
    /// `None` until it is written.
    pub(super) written: Option<HostRecord>,
    pub(super) revision: i64,
    /// Somebody else wrote or removed it.
    pub(super) foreign: bool,
}

impl OwnRecord {
    pub(super) const fn new(lease: i64) -> Self {
        Self {
            lease,
            written: None,
            revision: 0,
            foreign: false,
        }
    }

    /// Handles a message of the record's watch.
    pub(super) fn handle_watch(&mut self, message: &WatchResponse) {
        let mut pairs = message.events().iter().filter_map(|event| event.kv());
        self.foreign |= pairs.any(|pair| pair.mod_revision() > self.revision);
    }
}
