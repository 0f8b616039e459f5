//! The cookie keys that the controller has put in force.

use aya_ebpf::{bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY, macros::btf_map};
use tfo_common::fastopen::KeySet;

use super::array_of_maps::{self, ArrayOfMaps, InnerMap};

type OneKeySet =
    InnerMap<{ BPF_MAP_TYPE_ARRAY as usize }, { size_of::<u32>() }, { size_of::<KeySet>() }, 0>;

#[btf_map]
static KEYS: ArrayOfMaps<OneKeySet, 1> = ArrayOfMaps::new();

/// The set in force. The kernel keeps it whole and alive until the program returns, even if the
/// controller puts another in its place meanwhile.
#[inline(always)]
pub(crate) fn in_force<'a>() -> Option<&'a KeySet> {
    // SAFETY: the map's keys and values are these.
    let set = unsafe { array_of_maps::look_up::<u32, KeySet>(KEYS.get(0), &0) };
    // SAFETY: null, or a value of the inner map, which nobody writes to once it is in its place.
    unsafe { set.as_ref() }
}
