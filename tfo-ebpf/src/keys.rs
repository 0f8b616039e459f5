//! The cookie keys, as the controller has set them.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::bpf_map_type::{BPF_MAP_TYPE_ARRAY, BPF_MAP_TYPE_ARRAY_OF_MAPS},
    helpers::bpf_map_lookup_elem,
    macros::btf_map,
};
use tfo_common::cookie::KeySet;

#[btf_map]
static KEYS: KeySets = KeySets::new();

/// The set in force. The kernel keeps it whole and alive until the program returns, even if the
/// controller puts another in its place meanwhile.
#[inline(always)]
pub(crate) fn in_force<'a>() -> Option<&'a KeySet> {
    let first = ptr::from_ref(&0_u32).cast();
    let outer = ptr::from_ref(&KEYS).cast_mut().cast::<c_void>();
    // SAFETY: a map, and a key of its size.
    let inner = unsafe { bpf_map_lookup_elem(outer, first) };
    if inner.is_null() {
        return None;
    }
    // SAFETY: the kernel gave the inner map, and it is not null.
    let set = unsafe { bpf_map_lookup_elem(inner, first) }.cast::<KeySet>();
    // SAFETY: null, or a value of the inner map, which nobody writes to once it is in its place.
    unsafe { set.as_ref() }
}

/// An array of maps with one entry: an array with one [`KeySet`]. aya's own type would give the inner map's
/// value a type, and a kernel before Linux 6.2 then puts no map without one in its place.
#[repr(C)]
struct KeySets {
    r#type: *const [i32; BPF_MAP_TYPE_ARRAY_OF_MAPS as usize],
    key: *const u32,
    value: *const u32,
    max_entries: *const [i32; 1],
    values: [*const Inner; 0],
}

#[repr(C)]
struct Inner {
    r#type: *const [i32; BPF_MAP_TYPE_ARRAY as usize],
    key_size: *const [i32; size_of::<u32>()],
    value_size: *const [i32; size_of::<KeySet>()],
    max_entries: *const [i32; 1],
}

impl KeySets {
    const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            values: [],
        }
    }
}

// SAFETY: its fields only say to the loader what the map is like; nobody follows them.
unsafe impl Sync for KeySets {}
