//! The inner maps of one policy.

use aya::maps::{HashMap, LpmTrie, Map, MapData, lpm_trie::Key};
use aya_obj::generated::bpf_map_type;
use tfo_common::{
    abi::{POLICY_LIMITS, POLICY_LISTS, POLICY_RULES},
    policy::{Class, LimitKey, ListEntry, PortRule},
};

use super::inner_map::create;
use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, remove_file},
    },
    model::{Policy, Prefix},
};

/// `BPF_F_NO_PREALLOC`: memory for present entries alone.
const NO_PREALLOC: u32 = 1;

pub(super) type Rules<T> = HashMap<T, u32, PortRule>;
pub(super) type Trie<T> = LpmTrie<T, [u8; 16], u32>;

/// The inner maps of one slot.
pub(super) struct Slot {
    pub(super) rules: MapData,
    pub(super) lists: MapData,
    pub(super) limits: MapData,
}

impl Slot {
    pub(super) const MAPS: [&str; 3] = [POLICY_RULES, POLICY_LISTS, POLICY_LIMITS];

    fn new(rules: u32, lists: u32, limits: u32) -> Result<Self, DatapathError> {
        Ok(Self {
            rules: create::<u32, PortRule>(
                POLICY_RULES,
                bpf_map_type::BPF_MAP_TYPE_HASH,
                rules,
                NO_PREALLOC,
            )?,
            lists: create::<Key<[u8; 16]>, u32>(
                POLICY_LISTS,
                bpf_map_type::BPF_MAP_TYPE_LPM_TRIE,
                lists,
                NO_PREALLOC,
            )?,
            limits: create::<LimitKey, u64>(
                POLICY_LIMITS,
                bpf_map_type::BPF_MAP_TYPE_LRU_HASH,
                limits,
                0,
            )?,
        })
    }

    /// Maps of the least memory.
    pub(super) fn empty() -> Result<Self, DatapathError> {
        Self::new(1, 1, 1)
    }

    pub(super) fn of(policy: &Policy) -> Result<Self, DatapathError> {
        let lists = policy.lists.len().max(1) as u32;
        let slot = Self::new(Policy::MAX_RULES, lists, policy.sources.max)?;
        let mut map = Map::HashMap(slot.rules);
        let mut rules: Rules<_> = (&mut map)
            .try_into()
            .map_err(DatapathError::map(POLICY_RULES))?;
        for (port, rule) in policy.rules() {
            let rule = PortRule {
                rule,
                buckets: [0; Class::ALL.len()],
            };
            rules
                .insert(port, rule, 0)
                .map_err(DatapathError::map(POLICY_RULES))?;
        }
        let Map::HashMap(rules) = map else {
            return Err(DatapathError::Missing(POLICY_RULES));
        };
        let mut map = Map::LpmTrie(slot.lists);
        let mut trie: Trie<_> = (&mut map)
            .try_into()
            .map_err(DatapathError::map(POLICY_LISTS))?;
        for (prefixes, listed) in [
            (&policy.lists.allow, ListEntry::Allow),
            (&policy.lists.deny, ListEntry::Deny),
        ] {
            for prefix in prefixes {
                let key = key_of(*prefix);
                trie.insert(&key, listed as u32, 0)
                    .map_err(DatapathError::map(POLICY_LISTS))?;
            }
        }
        let Map::LpmTrie(lists) = map else {
            return Err(DatapathError::Missing(POLICY_LISTS));
        };
        Ok(Self {
            rules,
            lists,
            limits: slot.limits,
        })
    }

    /// Pins the maps next to those in force.
    pub(super) fn pin(&self, pins: &NamespacePins) -> Result<(), DatapathError> {
        for (map, name) in [
            (&self.rules, POLICY_RULES),
            (&self.lists, POLICY_LISTS),
            (&self.limits, POLICY_LIMITS),
        ] {
            let path = pins.next(name);
            // Left by a killed process.
            remove_file(&path)?;
            map.pin(&path).map_err(DatapathError::pin(&path))?;
        }
        Ok(())
    }
}

/// The trie's key: IPv4 is mapped to `::ffff:a.b.c.d`.
fn key_of(prefix: Prefix) -> Key<[u8; 16]> {
    let (address, before) = match prefix.address {
        std::net::IpAddr::V4(address) => (address.to_ipv6_mapped(), 96),
        std::net::IpAddr::V6(address) => (address, 0),
    };
    Key::new(before + u32::from(prefix.len), address.octets())
}
