//! The rules and secrets of own cookies that the controller has put in force, and the SYNs that may be given one.

use core::ptr;

use aya_ebpf::{bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY, btf_maps::Array, macros::btf_map};
use tfo_common::{
    fastopen::own::{ASKED, OwnCookies, asked_index},
    wire::{addresses::Addresses, flow::flow_tag},
};

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

/// CPUs may write an entry at once: either tag is one.
#[btf_map]
static OWN_ASKED: Array<u64, ASKED> = Array::new();

/// Notes a SYN to which the kernel may issue a cookie.
#[inline(always)]
pub(crate) fn note_asked(addresses: &Addresses, ports: u32) {
    let tag = flow_tag(addresses, ports);
    if let Some(entry) = OWN_ASKED.get_ptr_mut(asked_index(tag)) {
        // SAFETY: a value of the map, an aligned word.
        unsafe { ptr::write_volatile(entry, tag) };
    }
}

/// `true` if the SYN of these addresses and ports was noted.
#[inline(always)]
pub(crate) fn has_asked(addresses: &Addresses, ports: u32) -> bool {
    let tag = flow_tag(addresses, ports);
    // SAFETY: as above.
    OWN_ASKED
        .get_ptr(asked_index(tag))
        .is_some_and(|entry| unsafe { ptr::read_volatile(entry) } == tag)
}
