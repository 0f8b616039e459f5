//! Counters, per CPU and per destination port.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use tfo_common::{
    classify::Outcome,
    counters::{Counter, Counters},
    guard::Reaction,
    judgement::Judgement,
    maps::{COUNTER_SLOTS, PORTS, PortCounters},
    policy::Verdict,
    sizes::Sizes,
    syn::Syn,
};

use crate::atomic::Shared;

#[btf_map]
static COUNTERS: PerCpuArray<PortCounters, { COUNTER_SLOTS as usize }> = PerCpuArray::new();

#[btf_map]
static PORT_SLOTS: Array<Shared, PORTS> = Array::new();

#[btf_map]
static SLOTS_TAKEN: Array<Shared, 1> = Array::new();

#[btf_map]
static SIZES: PerCpuArray<Sizes, 1> = PerCpuArray::new();

/// The slot that counts what belongs to no port.
const NO_PORT: u64 = 0;

/// Counts a SYN, what it came to, and what was done to it.
#[inline(always)]
pub(crate) fn count_syn(syn: &Syn, judgement: Judgement, verdict: Verdict) {
    let fast_open = judgement.outcome(syn) != Outcome::NoOption;
    if let Some(counters) = at_port(syn.destination_port(), fast_open) {
        verdict.count(syn, judgement, counters);
    }
    if syn.data_len > 0
        && let Some(sizes) = SIZES.get_ptr_mut(0)
    {
        // SAFETY: as in `entry`.
        unsafe { &mut *sizes }.count(syn.data_len);
    }
}

/// Counts a SYN that the guard lets pass, and why.
#[inline(always)]
pub(crate) fn count_reaction(syn: &Syn, reaction: Reaction) {
    if let Some(counter) = reaction.counter() {
        count_at(syn.destination_port(), counter);
    }
}

/// Counts a SYN that goes no further. `issued`: its sender was handed a cookie.
#[inline(always)]
pub(crate) fn count_blocked(syn: &Syn, judgement: Judgement, reaction: Reaction, issued: bool) {
    let fast_open = judgement.outcome(syn) != Outcome::NoOption;
    if let Some(counters) = at_port(syn.destination_port(), fast_open) {
        reaction.count(syn, judgement, issued, counters);
    }
}

/// Counts what was done at a port that is guarded.
#[inline(always)]
pub(crate) fn count_at(port: u16, counter: Counter) {
    if let Some(counters) = at_port(port, true) {
        counters.add(counter, 1);
    }
}

/// Counts a frame that may have been a SYN.
#[inline(always)]
pub(crate) fn count_unparsed() {
    if let Some(entry) = entry(NO_PORT) {
        entry.counters.add(Counter::Unparsed, 1);
    }
}

/// This CPU's counters of a port, or of what has no slot.
#[inline(always)]
fn at_port<'a>(port: u16, fast_open: bool) -> Option<&'a mut Counters> {
    let slot = slot_of(port, fast_open);
    let entry = entry(slot)?;
    if slot != NO_PORT {
        entry.port = port.into();
    }
    Some(&mut entry.counters)
}

/// This CPU's counters in a slot.
#[inline(always)]
fn entry<'a>(slot: u64) -> Option<&'a mut PortCounters> {
    let entry = COUNTERS.get_ptr_mut(slot as u32)?;
    // SAFETY: the value is this CPU's own, and no other run of the program comes in between on this
    // CPU: the reference ends before the program returns.
    Some(unsafe { &mut *entry })
}

/// The port's slot; a new one at the port's first SYN, if one is left.
#[inline(always)]
fn slot_of(port: u16, fast_open: bool) -> u64 {
    let Some(slot) = PORT_SLOTS.get(port.into()) else {
        return NO_PORT;
    };
    match slot.load() {
        // Port 0 is no service's, and stands for "no port" in a slot.
        NO_PORT if port == 0 => NO_PORT,
        NO_PORT => take_slot(slot, fast_open),
        taken => taken,
    }
}

/// Takes a slot for a port that has none. Plain SYNs leave half of the slots to Fast Open.
#[inline(always)]
fn take_slot(slot: &Shared, fast_open: bool) -> u64 {
    let Some(taken) = SLOTS_TAKEN.get(0) else {
        return NO_PORT;
    };
    let last = if fast_open {
        COUNTER_SLOTS - 1
    } else {
        COUNTER_SLOTS / 2
    };
    if taken.load() >= last {
        return NO_PORT;
    }
    let new = taken.fetch_add(1) + 1;
    if new > COUNTER_SLOTS - 1 {
        return NO_PORT;
    }
    // Two CPUs can meet at a port's first SYN. The slot of the one that comes second stays unused.
    match slot.compare_exchange(NO_PORT, new) {
        NO_PORT => new,
        taken => taken,
    }
}
