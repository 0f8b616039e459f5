//! Counters, per CPU and per destination port.

use aya_ebpf::{
    btf_maps::{Array, PerCpuArray},
    macros::btf_map,
};
use tfo_common::{
    abi::{COUNTER_SLOTS, PORTS, PortCounters, sizes::Sizes},
    atomic::AtomicWord,
    context::SynContext,
    counters::{Counter, Counters},
};

#[btf_map]
static COUNTERS: PerCpuArray<PortCounters, { COUNTER_SLOTS as usize }> = PerCpuArray::new();

#[btf_map]
static PORT_SLOTS: Array<AtomicWord, PORTS> = Array::new();

#[btf_map]
static SLOTS_TAKEN: Array<AtomicWord, 1> = Array::new();

#[btf_map]
static SIZES: PerCpuArray<Sizes, 1> = PerCpuArray::new();

/// The slot of ports without a slot of their own.
const NO_PORT: u64 = 0;

/// Counts the SYN of `context` at its port, and its data.
#[inline(always)]
pub(crate) fn count(context: &SynContext) {
    let syn = &context.syn;
    if let Some(counters) = at_port(syn.destination_port(), context.uses_reserved_slot()) {
        context.count(counters);
    }
    if syn.data_len > 0
        && !context.guard.action().blocks()
        && let Some(sizes) = SIZES.get_ptr_mut(0)
    {
        // SAFETY: as in `entry`.
        unsafe { &mut *sizes }.count(syn.data_len);
    }
}

/// Counts a SYN for a host behind this one.
#[inline(always)]
pub(crate) fn count_at_edge(context: &SynContext) {
    let port = context.syn.destination_port();
    if let Some(counters) = at_port(port, context.uses_reserved_slot()) {
        context.count_at_edge(counters);
    }
}

/// Adds 1 to a counter of a port.
#[inline(always)]
pub(crate) fn count_at(port: u16, counter: Counter) {
    if let Some(counters) = at_port(port, true) {
        counters.add(counter, 1);
    }
}

/// Adds 1 to a counter that belongs to no port.
#[inline(always)]
pub(crate) fn count_anywhere(counter: Counter) {
    if let Some(entry) = entry(NO_PORT) {
        entry.counters.add(counter, 1);
    }
}

/// This CPU's counters of a port, or of slot 0. `reserved`: the port may take any free slot.
#[inline(always)]
fn at_port<'a>(port: u16, reserved: bool) -> Option<&'a mut Counters> {
    let slot = slot_of(port, reserved);
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
fn slot_of(port: u16, reserved: bool) -> u64 {
    let Some(slot) = PORT_SLOTS.get(port.into()) else {
        return NO_PORT;
    };
    match slot.load() {
        // No service has port 0; in a slot, it means no port.
        NO_PORT if port == 0 => NO_PORT,
        NO_PORT => take_slot(slot, reserved),
        taken => taken,
    }
}

/// Takes a slot for a port that has none. Ordinary SYNs leave half of the slots to Fast Open.
#[inline(always)]
fn take_slot(slot: &AtomicWord, reserved: bool) -> u64 {
    let Some(taken) = SLOTS_TAKEN.get(0) else {
        return NO_PORT;
    };
    let last = if reserved {
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
    // Two CPUs can meet at a port's first SYN. The slot that the second one took stays unused.
    match slot.compare_exchange(NO_PORT, new) {
        NO_PORT => new,
        taken => taken,
    }
}
