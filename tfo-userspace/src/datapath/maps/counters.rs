//! Counters and sizes of SYN data.

use std::collections::BTreeMap;

use aya::maps::{Array, Map, PerCpuArray};
use tfo_common::{
    abi::{COUNTERS, PortCounters, SIZES, SLOTS_TAKEN, sizes::Sizes},
    counters::Counters,
};

use crate::datapath::error::DatapathError;

/// All counters, read at about one time: a packet that arrives during the read may be in some of its counters
/// and not yet in others.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Snapshot {
    /// The sum over all frames.
    pub total: Counters,
    /// By destination port, for ports that have a slot.
    pub ports: BTreeMap<u16, Counters>,
    /// Of ports without a slot.
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
    /// Reads one interface's maps and sums over CPUs.
    pub(crate) fn read(counters: &Map, slots_taken: &Map) -> Result<Self, DatapathError> {
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

/// Reads one interface's `SIZES` and sums over CPUs.
pub(crate) fn read_sizes(map: &Map) -> Result<Sizes, DatapathError> {
    let map: PerCpuArray<_, Sizes> = map.try_into().map_err(DatapathError::map(SIZES))?;
    let mut sum = Sizes::default();
    for cpu in map.get(&0, 0).map_err(DatapathError::map(SIZES))?.iter() {
        sum += *cpu;
    }
    Ok(sum)
}
