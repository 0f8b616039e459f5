//! The switches of the network namespace: one load for every SYN.

use core::ptr;

use aya_ebpf::{btf_maps::Array, macros::btf_map};
use tfo_common::switches::Switches;

#[btf_map]
static SWITCHES: Array<Switches, 1> = Array::new();

/// Loads the present switches.
#[inline(always)]
pub(crate) fn load() -> Switches {
    Switches::from_word(match SWITCHES.get_ptr(0) {
        // SAFETY: the kernel gave the pointer. Both halves are read at once, as the controller writes them.
        Some(switches) => unsafe { ptr::read_volatile(switches.cast()) },
        None => 0,
    })
}
