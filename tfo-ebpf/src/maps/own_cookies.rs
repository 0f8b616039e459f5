//! The rules and secrets of own cookies that the controller has put in force.

use aya_ebpf::{bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY, macros::btf_map};
use tfo_common::fastopen::own::OwnCookies;

use super::array_of_maps::{self, ArrayOfMaps, InnerMap};

type OneRules =
    InnerMap<{ BPF_MAP_TYPE_ARRAY as usize }, { size_of::<u32>() }, { size_of::<OwnCookies>() }, 0>;

#[btf_map]
static OWN_COOKIES: ArrayOfMaps<OneRules, 1> = ArrayOfMaps::new();

/// The rules in force; `None` where the kernel's cookies are issued.
#[inline(always)]
pub(crate) fn in_force<'a>() -> Option<&'a OwnCookies> {
    // SAFETY: the map's keys and values are these.
    let rules = unsafe { array_of_maps::look_up::<u32, OwnCookies>(OWN_COOKIES.get(0), &0) };
    // SAFETY: null, or a value of the inner map, which nobody writes to once it is in its place.
    unsafe { rules.as_ref() }.filter(|rules| rules.is_on())
}
