//! Counts by source prefix.

use core::ptr;

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::LruHashMap, macros::btf_map};
use tfo_common::{
    abi::{DEFAULT_SOURCES, sources::SourceCounter},
    atomic::AtomicWord,
    classify::Outcome,
    wire::{
        addresses::{Address, PrefixMask},
        syn::Syn,
    },
};

/// One value for all CPUs, and atomic additions: a value per CPU would multiply the memory, and a source's SYNs arrive
/// on any CPU.
#[btf_map]
static SOURCES: LruHashMap<
    Address,
    [AtomicWord; SourceCounter::COUNT],
    { DEFAULT_SOURCES as usize },
> = LruHashMap::new();

/// Set by the controller before the program is loaded.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static SOURCE_MASK: PrefixMask = PrefixMask::OFF;

/// Counts a SYN for its source.
#[inline(always)]
pub(crate) fn count(syn: &Syn, outcome: Outcome) {
    // SAFETY: a live constant. Volatile, or LLVM would take the value above for granted; the verifier knows the real one
    // and removes dead code.
    let mask = unsafe { ptr::read_volatile(&raw const SOURCE_MASK) };
    if mask.enabled == 0 {
        return;
    }
    let prefix = mask.prefix(&syn.addresses);
    let counter = SourceCounter::of(outcome) as usize;
    if add(&prefix, counter) {
        return;
    }
    let first = [0, 1, 2, 3].map(|each| AtomicWord::new(u64::from(each == counter)));
    if SOURCES.insert(prefix, first, BPF_NOEXIST.into()).is_err() {
        // Another CPU was first. If the map has no room, the SYN is not counted.
        add(&prefix, counter);
    }
}

/// Adds 1 to a counter of a prefix; `false` if the prefix has none yet.
#[inline(always)]
fn add(prefix: &Address, counter: usize) -> bool {
    let Some(counts) = SOURCES.get_ptr(prefix) else {
        return false;
    };
    // SAFETY: the kernel gave the pointer, and frees no value while the program runs. It may give the value to another
    // prefix meanwhile, which then counts one too many.
    let counts = unsafe { &*counts };
    if let Some(count) = counts.get(counter) {
        count.fetch_add(1);
    }
    true
}
