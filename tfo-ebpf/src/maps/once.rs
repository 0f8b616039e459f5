//! The memory of SYNs whose data came before.

use aya_ebpf::{bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY, macros::btf_map};
use tfo_common::{
    abi::ONCE_INNER_FLAGS,
    policy::once::{OnceBy, OnceHead, OnceLine, SynData},
    wire::syn::Syn,
};

use super::array_of_maps::{self, ArrayOfMaps, InnerMap};
use crate::kernel::{barrier::barrier_var, clock};

type Lines = InnerMap<
    { BPF_MAP_TYPE_ARRAY as usize },
    { size_of::<u32>() },
    { size_of::<OnceLine>() },
    { ONCE_INNER_FLAGS as usize },
>;

#[btf_map]
static ONCE: ArrayOfMaps<Lines, 1> = ArrayOfMaps::new();

/// Remembers `syn`, whose data begins with `data`. `true` if it came before, or there is no memory.
#[inline(always)]
pub(crate) fn came_before(by: OnceBy, syn: &Syn, data: &SynData) -> bool {
    let lines = ONCE.get(0);
    // SAFETY: the map's keys are u32, and its first value is this.
    let head = unsafe { array_of_maps::look_up::<u32, OnceHead>(lines, &0) };
    // SAFETY: null, or a value of the map, which the controller wrote before the map was in its place.
    let Some(head) = (unsafe { head.as_ref() }) else {
        return true;
    };
    let fingerprint = head.fingerprint(by, syn, data);
    // SAFETY: the map's keys are u32, and all values but the first are these.
    let line = unsafe { array_of_maps::look_up::<u32, OnceLine>(lines, &head.entry(fingerprint)) };
    // SAFETY: null, or a value of the map, which is only ever accessed so.
    match unsafe { line.as_ref() } {
        Some(line) => line.came_before(fingerprint, head.epoch(clock::now()), |index| {
            barrier_var(index, syn.sequence.into())
        }),
        None => true,
    }
}
