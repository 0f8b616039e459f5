//! Events of single SYNs, while there is a reader.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    btf_maps::{Array, PerCpuArray, RingBuf},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};
use tfo_common::{
    abi::{
        EVENT_RING,
        events::{Event, EventBudget, EventGate},
    },
    atomic::AtomicWord,
    context::SynContext,
};

/// Of [`Event`]. It has no type: libbpf would take its size for a value's.
#[btf_map]
static EVENTS: RingBuf<(), EVENT_RING> = RingBuf::new();

#[btf_map]
static EVENT_GATE: Array<EventGate, 1> = Array::new();

#[btf_map]
static EVENT_BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// Writes an event of the SYN of `context`, if the reader wants it.
#[inline(always)]
pub(crate) fn report(context: &SynContext) {
    let Some(gate) = EVENT_GATE.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the gate's first field, which the program accesses in no other way.
    let deadline = unsafe { &*gate.cast::<AtomicWord>() };
    let until = deadline.load();
    if until == 0 {
        return;
    }
    // SAFETY: it only reads a clock.
    let now = unsafe { bpf_ktime_get_ns() };
    if now > until {
        // The reader was killed. The next SYN need not read the clock.
        deadline.compare_exchange(until, 0);
        return;
    }
    // SAFETY: the kernel gave the pointer. The controller writes there meanwhile, so the read is volatile.
    let gate = unsafe { ptr::read_volatile(gate) };
    if gate.wants(context) {
        write(&Event::new(now, context), &gate);
    }
}

/// Puts an event into the ring, if the rate allows.
#[inline(always)]
fn write(event: &Event, gate: &EventGate) {
    let Some(budget) = EVENT_BUDGET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the value is this CPU's own, and no other run of the program comes in between on this
    // CPU: the reference ends before the program returns.
    let budget = unsafe { &mut *budget };
    if !budget.take(event.time, gate) {
        return;
    }
    // The reader polls: a wake-up per event costs more than all the rest.
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        budget.ring_full = budget.ring_full.wrapping_add(1);
        return;
    };
    entry.write(*event);
    entry.submit(BPF_RB_NO_WAKEUP.into());
}
