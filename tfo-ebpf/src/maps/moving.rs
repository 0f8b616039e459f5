//! Whether the interface's data path moves from XDP to traffic control or back at this moment.

use core::ptr;

use aya_ebpf::{btf_maps::Array, macros::btf_map};

#[btf_map]
static MOVING: Array<u32, 1> = Array::new();

/// `true` while programs of both may be attached.
#[inline(always)]
pub(crate) fn is_moving() -> bool {
    // SAFETY: the kernel gave the pointer.
    MOVING
        .get_ptr(0)
        .is_some_and(|moving| unsafe { ptr::read_volatile(moving) } != 0)
}
