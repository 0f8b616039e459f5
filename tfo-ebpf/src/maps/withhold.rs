//! What is remembered of sources that may waste cookies, and the notes about SYNs whose handshakes are to teach it.

use core::{ffi::c_void, ptr};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_map_type::BPF_MAP_TYPE_LRU_HASH},
    btf_maps::Array,
    helpers::bpf_map_update_elem,
    macros::btf_map,
};
use tfo_common::{
    policy::withhold::{NOTES, Note, Sent, SourceMemory},
    wire::{
        addresses::{Address, Addresses},
        syn::Syn,
    },
};

use super::array_of_maps::{self, ArrayOfMaps, InnerMap};

/// CPUs may write an entry at once: either word is a note.
#[btf_map]
static SYN_NOTES: Array<u64, NOTES> = Array::new();

type Sources = InnerMap<
    { BPF_MAP_TYPE_LRU_HASH as usize },
    { size_of::<Address>() },
    { size_of::<SourceMemory>() },
    0,
>;

#[btf_map]
static SOURCE_MEMORY: ArrayOfMaps<Sources, 1> = ArrayOfMaps::new();

/// Notes what `syn` showed.
#[inline(always)]
pub(crate) fn note(syn: &Syn, sent: Sent) {
    let note = Note::of(&syn.addresses, syn.ports);
    if let Some(word) = SYN_NOTES.get_ptr_mut(note.index) {
        // SAFETY: a value of the map, an aligned word.
        unsafe {
            ptr::write_volatile(
                word,
                note.word(syn.sequence, sent, ptr::read_volatile(word)),
            )
        };
    }
}

/// What the SYN of a connection showed, if that was noted. A note teaches once.
#[inline(always)]
pub(crate) fn take_note(addresses: &Addresses, ports: u32) -> Sent {
    let note = Note::of(addresses, ports);
    let Some(word) = SYN_NOTES.get_ptr_mut(note.index) else {
        return Sent::Nothing;
    };
    // SAFETY: as above.
    let sent = note.sent(unsafe { ptr::read_volatile(word) });
    if !matches!(sent, Sent::Nothing) {
        // SAFETY: as above.
        unsafe { ptr::write_volatile(word, 0) };
    }
    sent
}

/// What is remembered of the sources with this prefix.
#[inline(always)]
pub(crate) fn of_source<'a>(prefix: &Address) -> Option<&'a SourceMemory> {
    in_map(SOURCE_MEMORY.get(0), prefix)
}

/// As [`of_source`], but begins to remember; `None` where there is no room.
#[inline(always)]
pub(crate) fn of_new_source<'a>(prefix: &Address) -> Option<&'a SourceMemory> {
    let map = SOURCE_MEMORY.get(0);
    let known = in_map(map, prefix);
    if known.is_some() || map.is_null() {
        return known;
    }
    let new = SourceMemory::default();
    // SAFETY: the map, with a key and a value of its sizes. If another CPU was first, its entry is found.
    unsafe {
        bpf_map_update_elem(
            map,
            ptr::from_ref(prefix).cast(),
            ptr::from_ref(&new).cast(),
            BPF_NOEXIST.into(),
        );
    }
    in_map(map, prefix)
}

#[inline(always)]
fn in_map<'a>(map: *mut c_void, prefix: &Address) -> Option<&'a SourceMemory> {
    // SAFETY: the map's keys and values are these.
    let memory = unsafe { array_of_maps::look_up::<Address, SourceMemory>(map, prefix) };
    // SAFETY: null, or a value of the map, which is only ever accessed so. The kernel may give it to another prefix meanwhile,
    // which then learns from one handshake too many.
    unsafe { memory.as_ref() }
}
