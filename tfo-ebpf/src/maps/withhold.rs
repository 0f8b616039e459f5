//! Memory of sources that may waste cookies, and the notes about SYNs whose handshakes update it.

use core::{ffi::c_void, mem::MaybeUninit, ptr};

use aya_ebpf::{
    bindings::{BPF_NOEXIST, bpf_map_type::BPF_MAP_TYPE_LRU_HASH},
    btf_maps::Array,
    helpers::bpf_map_update_elem,
    macros::btf_map,
};
use tfo_common::{
    atomic::AtomicWord,
    policy::withhold::{NOTES, NOTES_KEY, Note, Sent, SourceMemory},
    wire::{addresses::Address, syn::Syn},
};

use super::array_of_maps::{self, ArrayOfMaps, InnerMap};
use crate::kernel::established::Established;

#[btf_map]
static SYN_NOTES: Array<AtomicWord, { NOTES + 1 }> = Array::new();

type Sources = InnerMap<
    { BPF_MAP_TYPE_LRU_HASH as usize },
    { size_of::<Address>() },
    { size_of::<SourceMemory>() },
    0,
>;

#[btf_map]
static SOURCE_MEMORY: ArrayOfMaps<Sources, 1> = ArrayOfMaps::new();

/// Notes what `syn` showed. CPUs may write an entry at once: either word is a note.
#[inline(always)]
pub(crate) fn note(syn: &Syn, sent: Sent) {
    let Some(key) = word(NOTES_KEY) else {
        return;
    };
    let note = Note::of(&syn.addresses, syn.ports, syn.sequence, key.load());
    if let Some(word) = word(note.index) {
        word.store(note.noting(sent, word.load()));
    }
}

/// Takes the evidence of a connection's SYN from its note, once; `None` where the note was lost.
#[inline(always)]
pub(crate) fn take_note(connection: &Established) -> Option<Sent> {
    let key = word(NOTES_KEY)?;
    let Established {
        addresses,
        ports,
        sequence,
    } = connection;
    let note = Note::of(addresses, *ports, *sequence, key.load());
    let word = word(note.index)?;
    let sent = note.sent(word.load());
    if sent.is_some() {
        word.store(note.spent());
    }
    sent
}

#[inline(always)]
fn word<'a>(index: u32) -> Option<&'a AtomicWord> {
    // SAFETY: a value of the map, which is only ever accessed so.
    SYN_NOTES.get_ptr(index).map(|word| unsafe { &*word })
}

/// Returns the memory of the sources with this prefix.
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
    // Zeroed word by word: LLVM would call a function to do so, which libbpf does not take.
    let mut new = MaybeUninit::<SourceMemory>::uninit();
    let words = new.as_mut_ptr().cast::<u64>();
    for index in 0..size_of::<SourceMemory>() / size_of::<u64>() {
        // SAFETY: one of its words, which are aligned.
        unsafe { ptr::write_volatile(words.wrapping_add(index), 0) };
    }
    // SAFETY: the map, with a key and a value of its sizes. If another CPU was first, its entry is found.
    unsafe {
        bpf_map_update_elem(
            map,
            ptr::from_ref(prefix).cast(),
            new.as_ptr().cast(),
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
