//! Maps of maps, declared by the sizes of the inner map's entries. aya's own type declares BTF types, and a kernel before
//! Linux 6.2 then refuses an inner map without them.

use core::{ffi::c_void, ptr};

use aya_ebpf::{bindings::bpf_map_type::BPF_MAP_TYPE_ARRAY_OF_MAPS, helpers::bpf_map_lookup_elem};

/// An array of maps with `ENTRIES` entries, each like `I`.
#[repr(C)]
pub(crate) struct ArrayOfMaps<I, const ENTRIES: usize> {
    r#type: *const [i32; BPF_MAP_TYPE_ARRAY_OF_MAPS as usize],
    key: *const u32,
    value: *const u32,
    max_entries: *const [i32; ENTRIES],
    values: [*const I; 0],
}

/// The definition of inner maps. Their number of entries matters for arrays only.
#[repr(C)]
pub(crate) struct InnerMap<
    const TYPE: usize,
    const KEY: usize,
    const VALUE: usize,
    const FLAGS: usize,
> {
    r#type: *const [i32; TYPE],
    key_size: *const [i32; KEY],
    value_size: *const [i32; VALUE],
    max_entries: *const [i32; 1],
    map_flags: *const [i32; FLAGS],
}

impl<I, const ENTRIES: usize> ArrayOfMaps<I, ENTRIES> {
    pub(crate) const fn new() -> Self {
        Self {
            r#type: ptr::null(),
            key: ptr::null(),
            value: ptr::null(),
            max_entries: ptr::null(),
            values: [],
        }
    }

    /// The inner map at `index`; null where none is. The kernel keeps it alive until the program returns,
    /// even if the controller puts another in its place meanwhile.
    #[inline(always)]
    pub(crate) fn get(&self, index: u32) -> *mut c_void {
        let outer = ptr::from_ref(self).cast_mut().cast::<c_void>();
        // SAFETY: a map, and a key of its size.
        unsafe { bpf_map_lookup_elem(outer, ptr::from_ref(&index).cast()) }
    }
}

/// The value of `key` in an inner map; null where there is none.
///
/// # Safety
///
/// The map has keys of `K` and values of `V`.
#[inline(always)]
pub(crate) unsafe fn look_up<K, V>(inner: *mut c_void, key: &K) -> *mut V {
    if inner.is_null() {
        return ptr::null_mut();
    }
    // SAFETY: an inner map that is not null, and a key of its size by the caller's word.
    unsafe { bpf_map_lookup_elem(inner, ptr::from_ref(key).cast()) }.cast()
}

// SAFETY: the fields are a definition for the loader; nothing follows the pointers.
unsafe impl<I, const ENTRIES: usize> Sync for ArrayOfMaps<I, ENTRIES> {}
