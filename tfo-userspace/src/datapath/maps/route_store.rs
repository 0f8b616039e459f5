//! The maps of local routes and of answering devices, which follow the kernel's routing.

use std::{collections::BTreeMap, io::ErrorKind};

use aya::maps::{HashMap, LpmTrie, Map, MapData, MapError, lpm_trie::Key};
use tfo_common::abi::{ANSWER_DEVICES, LOCAL_ROUTES};

use crate::{
    datapath::error::DatapathError,
    kernel::{device, routes},
    model::Prefix,
};

/// The bytes of an [`tfo_common::wire::addresses::Address`].
type Bytes = [u8; 16];

/// The maps `LOCAL_ROUTES` and `ANSWER_DEVICES`.
pub(crate) struct RouteStore {
    local: LpmTrie<MapData, Bytes, u32>,
    devices: HashMap<MapData, u64, u32>,
}

impl RouteStore {
    pub(crate) fn of(
        mut map: impl FnMut(&'static str) -> Result<Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        let local = map(LOCAL_ROUTES)?.try_into();
        let devices = map(ANSWER_DEVICES)?.try_into();
        Ok(Self {
            local: local.map_err(DatapathError::map(LOCAL_ROUTES))?,
            devices: devices.map_err(DatapathError::map(ANSWER_DEVICES))?,
        })
    }

    /// Brings both maps in line with the routing of the calling thread's namespace.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where rtnetlink or a map fails.
    pub(crate) fn sync(&mut self) -> Result<(), DatapathError> {
        let netlink = |source| DatapathError::Io {
            path: "rtnetlink".into(),
            source,
        };
        let wanted = routes::local().map_err(netlink)?;
        let wanted = wanted
            .iter()
            .map(|(prefix, local)| (key(prefix), u32::from(*local)));
        self.sync_local(&wanted.collect())?;
        self.sync_devices(&device::answer_devices().map_err(netlink)?)
    }

    fn sync_local(&mut self, wanted: &BTreeMap<(u32, Bytes), u32>) -> Result<(), DatapathError> {
        let entries: Result<Vec<_>, MapError> = self.local.iter().collect();
        let entries = entries.map_err(DatapathError::map(LOCAL_ROUTES))?;
        let present = entries
            .into_iter()
            .map(|(key, value)| ((key.prefix_len(), key.data()), value))
            .collect();
        let (set, removed) = difference(&present, wanted);
        for ((len, data), value) in set {
            let key = Key::new(len, data);
            self.local
                .insert(&key, value, 0)
                .map_err(DatapathError::map(LOCAL_ROUTES))?;
        }
        for (len, data) in removed {
            let removed = self.local.remove(&Key::new(len, data));
            gone(removed).map_err(DatapathError::map(LOCAL_ROUTES))?;
        }
        Ok(())
    }

    fn sync_devices(&mut self, wanted: &BTreeMap<u64, u32>) -> Result<(), DatapathError> {
        let entries: Result<_, MapError> = self.devices.iter().collect();
        let present = entries.map_err(DatapathError::map(ANSWER_DEVICES))?;
        let (set, removed) = difference(&present, wanted);
        for (key, value) in set {
            let set = self.devices.insert(key, value, 0);
            set.map_err(DatapathError::map(ANSWER_DEVICES))?;
        }
        for key in removed {
            gone(self.devices.remove(&key)).map_err(DatapathError::map(ANSWER_DEVICES))?;
        }
        Ok(())
    }
}

/// Another process may have removed it.
fn gone(removed: Result<(), MapError>) -> Result<(), MapError> {
    match removed {
        Err(MapError::SyscallError(call)) if call.io_error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed,
    }
}

/// The entries to set, and the keys to remove.
fn difference<K: Copy + Ord>(
    present: &BTreeMap<K, u32>,
    wanted: &BTreeMap<K, u32>,
) -> (Vec<(K, u32)>, Vec<K>) {
    let set = wanted
        .iter()
        .filter(|(key, value)| present.get(*key) != Some(*value));
    let removed = present.keys().filter(|key| !wanted.contains_key(*key));
    (
        set.map(|(key, value)| (*key, *value)).collect(),
        removed.copied().collect(),
    )
}

fn key(prefix: &Prefix) -> (u32, Bytes) {
    match prefix.address {
        std::net::IpAddr::V4(address) => (
            u32::from(prefix.len) + 96,
            address.to_ipv6_mapped().octets(),
        ),
        std::net::IpAddr::V6(address) => (prefix.len.into(), address.octets()),
    }
}
