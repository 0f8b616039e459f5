//! What the data path has counted.

use std::collections::BTreeMap;

use aya::maps::{Array, Map, PerCpuArray};
use tfo_common::{
    counters::Counters,
    maps::{COUNTERS, PortCounters, SIZES, SLOTS_TAKEN},
    sizes::Sizes,
};

use super::{DatapathError, Namespace, program::map_from_pin};

/// All counts at about one time. Packets that pass meanwhile may be in one counter and not yet in
/// another.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// All frames.
    pub total: Counters,
    /// SYNs by destination port, for the ports that have a slot.
    pub ports: BTreeMap<u16, Counters>,
    /// What belongs to no port that has a slot.
    pub other: Counters,
}

impl std::ops::AddAssign for Snapshot {
    fn add_assign(&mut self, more: Self) {
        self.total += more.total;
        self.other += more.other;
        for (port, counters) in more.ports {
            *self.ports.entry(port).or_default() += counters;
        }
    }
}

impl Snapshot {
    /// Reads the maps of one interface and adds up all CPUs.
    pub(super) fn read(counters: &Map, slots_taken: &Map) -> Result<Self, DatapathError> {
        let slots_taken: Array<_, u64> = slots_taken
            .try_into()
            .map_err(DatapathError::map(SLOTS_TAKEN))?;
        let counters: PerCpuArray<_, PortCounters> =
            counters.try_into().map_err(DatapathError::map(COUNTERS))?;
        let taken = slots_taken
            .get(&0, 0)
            .map_err(DatapathError::map(SLOTS_TAKEN))?;
        let last = taken.min(u64::from(counters.len()) - 1) as u32;
        let mut snapshot = Self::default();
        for slot in 0..=last {
            let per_cpu = counters
                .get(&slot, 0)
                .map_err(DatapathError::map(COUNTERS))?;
            let sum: Counters = per_cpu.iter().map(|cpu| cpu.counters).sum();
            snapshot.total += sum;
            match per_cpu.iter().map(|cpu| cpu.port).find(|port| *port != 0) {
                Some(port) => *snapshot.ports.entry(port as u16).or_default() += sum,
                None => snapshot.other += sum,
            }
        }
        Ok(snapshot)
    }
}

/// Reads the map of one interface and adds up all CPUs.
pub(super) fn read_sizes(map: &Map) -> Result<Sizes, DatapathError> {
    let map: PerCpuArray<_, Sizes> = map.try_into().map_err(DatapathError::map(SIZES))?;
    let mut sum = Sizes::default();
    for cpu in map.get(&0, 0).map_err(DatapathError::map(SIZES))?.iter() {
        sum += *cpu;
    }
    Ok(sum)
}

impl Namespace {
    /// How much data SYNs had on all attached interfaces.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn sizes(&self) -> Result<Sizes, DatapathError> {
        let mut sum = Sizes::default();
        for pins in self.pins().interfaces()? {
            sum += self.sizes_of(pins.index)?;
        }
        Ok(sum)
    }

    /// How much data SYNs had on one interface.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sizes_of(&self, index: u32) -> Result<Sizes, DatapathError> {
        let pins = self.pins().interface(index);
        read_sizes(&map_from_pin(&pins.map(SIZES), SIZES)?)
    }
}
