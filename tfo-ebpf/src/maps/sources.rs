//! Counts by source prefix.

use core::ptr;

use aya_ebpf::{bindings::BPF_NOEXIST, btf_maps::LruHashMap, macros::btf_map};
use tfo_common::{
    classify::Outcome,
    maps::DEFAULT_SOURCES,
    sources::{Address, Habit, SourceSettings},
    syn::Syn,
};

use crate::atomic::Shared;

/// One value for all CPUs, and atomic additions: a value per CPU would multiply the memory, and a
/// source's SYNs come by no CPU in particular.
#[btf_map]
static SOURCES: LruHashMap<Address, [Shared; Habit::COUNT], { DEFAULT_SOURCES as usize }> =
    LruHashMap::new();

/// Set by the controller before the program is loaded.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static SOURCE_SETTINGS: SourceSettings = SourceSettings::OFF;

/// Counts a SYN for its source.
#[inline(always)]
pub(crate) fn count(syn: &Syn, outcome: Outcome) {
    // SAFETY: a live constant. Volatile, or the compiler would take the value above for granted; the
    // verifier knows the value, and leaves out what it rules out.
    let settings = unsafe { ptr::read_volatile(&raw const SOURCE_SETTINGS) };
    if settings.enabled == 0 {
        return;
    }
    let prefix = settings.prefix(&syn.addresses);
    let habit = Habit::of(outcome) as usize;
    if add(&prefix, habit) {
        return;
    }
    let first = [0, 1, 2, 3].map(|each| Shared::new(u64::from(each == habit)));
    if SOURCES.insert(prefix, first, BPF_NOEXIST.into()).is_err() {
        // Another CPU came first, or the map has no room: then it is not counted.
        add(&prefix, habit);
    }
}

/// Adds to what is there; `false` where nothing is.
#[inline(always)]
fn add(prefix: &Address, habit: usize) -> bool {
    let Some(counts) = SOURCES.get_ptr(prefix) else {
        return false;
    };
    // SAFETY: the kernel gave the pointer, and frees no value while the program runs. It may give it to
    // another prefix meanwhile, where it is then one too many.
    let counts = unsafe { &*counts };
    if let Some(count) = counts.get(habit) {
        count.fetch_add(1);
    }
    true
}
