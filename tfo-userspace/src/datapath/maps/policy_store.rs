//! The policy in force.
//!
//! There are two slots of inner maps. A new policy is built in the slot that is not in force; one write to the
//! head then selects it. The other slot is emptied once no running program can read it.

use std::{collections::BTreeMap, fs};

use aya::{
    Ebpf,
    maps::{ArrayOfMaps, Map, MapData, MapError},
};
use tfo_common::{
    abi::{
        DEFAULT_PORT, ONCE, POLICY_LIMITS, POLICY_LISTS, POLICY_RULES, POLICY_SLOTS, SOURCE_MEMORY,
        SWITCHES, SYN_NOTES,
    },
    policy::{Class, ListEntry, PortRule, withhold::SourceState},
    switches::Switches,
    wire::addresses::Address,
};

use super::{
    once_store::OnceStore,
    policy_slot::{Rules, Slot, Trie},
    switch_store::SwitchStore,
    withhold_store::WithholdStore,
};
use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, map_from_pin, remove_file},
    },
    model::{LimitedSources, Lists, Policy, PortPolicy, Prefix},
};

type Outer = ArrayOfMaps<MapData, MapData>;

/// Key figures of a policy, read without its lists.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct PolicySummary {
    /// Number of rules, the default rule among them.
    pub rules: usize,
    /// Number of rules that only count.
    pub dry_run: usize,
    /// Number of prefixes on the lists.
    pub prefixes: u32,
    /// Some rule drops SYNs.
    pub drops: bool,
    /// Some rule withholds cookies.
    pub withholds: bool,
}

/// The maps `POLICY_RULES`, `POLICY_LISTS` and `POLICY_LIMITS`, and the switches that select a slot of theirs.
pub(crate) struct PolicyStore {
    switches: SwitchStore,
    rules: Outer,
    lists: Outer,
    limits: Outer,
    once: OnceStore,
    withhold: WithholdStore,
    /// Pins of the inner maps in force: reading them through the outer ones takes `CAP_SYS_ADMIN`. `None` where
    /// nothing is pinned.
    pins: Option<NamespacePins>,
}

impl PolicyStore {
    /// Takes the maps of an object that is not pinned.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let switches = ebpf.map(SWITCHES).ok_or(DatapathError::Missing(SWITCHES))?;
        Self::of(SwitchStore::of(switches)?, None, |name| {
            ebpf.take_map(name).ok_or(DatapathError::Missing(name))
        })
    }

    pub(crate) fn of(
        switches: SwitchStore,
        pins: Option<NamespacePins>,
        mut map: impl FnMut(&'static str) -> Result<Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        let mut outer = |name| map(name)?.try_into().map_err(DatapathError::map(name));
        let (rules, lists, limits) = (
            outer(POLICY_RULES)?,
            outer(POLICY_LISTS)?,
            outer(POLICY_LIMITS)?,
        );
        let once = OnceStore::new(map(ONCE)?, pins.as_ref())?;
        let withhold = WithholdStore::new([map(SOURCE_MEMORY)?, map(SYN_NOTES)?], pins.as_ref())?;
        Ok(Self {
            switches,
            rules,
            lists,
            limits,
            once,
            withhold,
            pins,
        })
    }

    /// The policy in force; `None` where there is none, or the maps are not pinned.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub(crate) fn get(&self) -> Result<Option<Policy>, DatapathError> {
        let switches = self.switches.get()?;
        let Some(pins) = self.pins.as_ref().filter(|_| switches.has_policy()) else {
            return Ok(None);
        };
        let rules = rules_in_force(pins)?;
        let lists: Trie<_> = map_from_pin(&pins.present(POLICY_LISTS), POLICY_LISTS)?
            .try_into()
            .map_err(DatapathError::map(POLICY_LISTS))?;
        let most_sources = max_entries(pins, POLICY_LIMITS)?;
        let mut policy = Policy {
            lists: read_lists(&lists).map_err(DatapathError::map(POLICY_LISTS))?,
            once: self.once.get()?.unwrap_or_default(),
            ..Policy::default()
        };
        for entry in &rules {
            let (port, PortRule { rule, .. }) = entry.map_err(DatapathError::map(POLICY_RULES))?;
            policy.sources = LimitedSources {
                max: most_sources,
                v4: rule.sources.v4_len(),
                v6: rule.sources.v6_len(),
            };
            let rule = PortPolicy::of_rule(&rule);
            match port {
                DEFAULT_PORT => policy.default = rule,
                port => drop(policy.ports.insert(port as u16, rule)),
            }
        }
        Ok(Some(policy))
    }

    /// As [`Self::get`], but does not read the lists.
    pub(crate) fn summary(&self) -> Result<Option<PolicySummary>, DatapathError> {
        let switches = self.switches.get()?;
        let Some(pins) = self.pins.as_ref().filter(|_| switches.has_policy()) else {
            return Ok(None);
        };
        let mut summary = PolicySummary::default();
        for entry in &rules_in_force(pins)? {
            let (_, PortRule { rule, .. }) = entry.map_err(DatapathError::map(POLICY_RULES))?;
            summary.rules += 1;
            summary.dry_run += usize::from(rule.dry_run != 0);
            summary.drops |= PortPolicy::of_rule(&rule).drops();
            summary.withholds |= rule.withhold != 0;
        }
        // The trie is created for as many entries as the lists have.
        if switches.has(Switches::LISTS) {
            summary.prefixes = max_entries(pins, POLICY_LISTS)?;
        }
        Ok(Some(summary))
    }

    /// Puts a policy, or none, in force as a whole. Every limit starts with its full burst.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it; the previous policy then stays in force.
    pub(crate) fn set(&mut self, policy: Option<&Policy>) -> Result<(), DatapathError> {
        let before = self.switches.get()?.policy_slot();
        let Some(policy) = policy else {
            self.select(None)?;
            self.clear(before)?;
            self.once.clear()?;
            self.withhold.clear()?;
            return self.unpin();
        };
        let slot = before.map_or(0, |slot| (slot + 1) % POLICY_SLOTS as u32);
        let lengths_before = self.lengths_in_force()?;
        let made = Slot::of(policy)?;
        if let Some(pins) = &self.pins {
            made.pin(pins)?;
        }
        self.put(slot, &made)?;
        if policy.remembers() {
            self.once.set(policy.once, true)?;
        }
        if policy.withholds() {
            self.withhold.set(lengths(policy.sources), lengths_before)?;
        }
        self.select(Some((slot, switches_of(policy))))?;
        // Returns once no program runs that may have read the other slot (`maybe_wait_bpf_programs`).
        self.put(slot, &made)?;
        self.clear(before)?;
        if !policy.remembers() {
            self.once.set(policy.once, false)?;
        }
        if !policy.withholds() {
            self.withhold.clear()?;
        }
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        // A process killed before this leaves the previous policy to be read until the next change.
        for name in Slot::MAPS {
            let path = pins.in_force(name);
            fs::rename(pins.next(name), &path).map_err(DatapathError::io(&path))?;
        }
        Ok(())
    }

    /// Returns the memory of sources, by prefix; empty where no rule withholds cookies.
    pub(crate) fn remembered(&self) -> Result<BTreeMap<Prefix, SourceState>, DatapathError> {
        match self.lengths_in_force()? {
            Some(lengths) => self.withhold.sources(lengths),
            None => Ok(BTreeMap::new()),
        }
    }

    /// Forgets the source of this prefix.
    pub(crate) fn forget(&self, prefix: Prefix) -> Result<(), DatapathError> {
        self.withhold.forget(prefix)
    }

    /// The prefix lengths of the policy in force: all its rules have the same.
    fn lengths_in_force(&self) -> Result<Option<(u8, u8)>, DatapathError> {
        let switches = self.switches.get()?;
        let Some(pins) = self.pins.as_ref().filter(|_| switches.has_policy()) else {
            return Ok(None);
        };
        let first = rules_in_force(pins)?.iter().next().transpose();
        let first = first.map_err(DatapathError::map(POLICY_RULES))?;
        Ok(first.map(|(_, PortRule { rule, .. })| (rule.sources.v4_len(), rule.sources.v6_len())))
    }

    /// Selects the policy of a slot, with its switches, or none.
    fn select(&mut self, policy: Option<(u32, u32)>) -> Result<(), DatapathError> {
        self.switches
            .change(|switches| switches.with_policy(policy))
    }

    fn put(&mut self, slot: u32, maps: &Slot) -> Result<(), DatapathError> {
        for (outer, inner, name) in [
            (&mut self.rules, &maps.rules, POLICY_RULES),
            (&mut self.lists, &maps.lists, POLICY_LISTS),
            (&mut self.limits, &maps.limits, POLICY_LIMITS),
        ] {
            outer
                .set(slot, inner, 0)
                .map_err(DatapathError::map(name))?;
        }
        Ok(())
    }

    /// Empties a slot that is no longer in force.
    fn clear(&mut self, slot: Option<u32>) -> Result<(), DatapathError> {
        match slot {
            Some(slot) => self.put(slot, &Slot::empty()?),
            None => Ok(()),
        }
    }

    fn unpin(&self) -> Result<(), DatapathError> {
        let Some(pins) = &self.pins else {
            return Ok(());
        };
        Slot::MAPS
            .iter()
            .flat_map(|name| [pins.in_force(name), pins.next(name)])
            .try_for_each(|path| remove_file(&path))
    }
}

const fn lengths(sources: LimitedSources) -> (u8, u8) {
    (sources.v4, sources.v6)
}

/// The switches of `policy`.
fn switches_of(policy: &Policy) -> u32 {
    let lists = !policy.lists.is_empty();
    // Lists are for all classes.
    let acts = |class: &Class| lists || policy.rules().any(|(_, rule)| rule.acts_on(*class));
    let classes = Class::ALL.into_iter().filter(acts);
    classes
        .map(Switches::of_class)
        .fold(0, |all, bit| all | bit)
        | Switches::bit_if(lists, Switches::LISTS)
        | Switches::bit_if(policy.withholds(), Switches::WITHHOLDS)
        | Switches::bit_if(!policy.ports.is_empty(), Switches::PORTS)
}

fn rules_in_force(pins: &NamespacePins) -> Result<Rules<MapData>, DatapathError> {
    map_from_pin(&pins.present(POLICY_RULES), POLICY_RULES)?
        .try_into()
        .map_err(DatapathError::map(POLICY_RULES))
}

fn max_entries(pins: &NamespacePins, name: &'static str) -> Result<u32, DatapathError> {
    let map = MapData::from_pin(pins.present(name));
    let info = map.and_then(|map| map.info());
    Ok(info.map_err(DatapathError::map(name))?.max_entries())
}

fn read_lists(trie: &Trie<MapData>) -> Result<Lists, MapError> {
    let mut lists = Lists::default();
    for entry in trie {
        let (key, listed) = entry?;
        let address = Address::from_bytes(key.data()).ip();
        let before = if address.is_ipv4() { 96 } else { 0 };
        let prefix = Prefix {
            address,
            len: (key.prefix_len() - before) as u8,
        };
        match ListEntry::from_number(listed) {
            ListEntry::Deny => lists.deny.push(prefix),
            _ => lists.allow.push(prefix),
        }
    }
    lists.allow.sort_unstable();
    lists.deny.sort_unstable();
    Ok(lists)
}
