//! The stream of single SYNs, for as long as someone listens.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_RB_NO_WAKEUP,
    btf_maps::{Array, PerCpuArray, RingBuf},
    helpers::bpf_ktime_get_ns,
    macros::btf_map,
};
use tfo_common::{
    classify::Outcome,
    events::{Event, EventBudget, EventGate},
    maps::EVENT_RING,
    policy::Verdict,
    syn::Syn,
};

/// Of [`Event`]. libbpf wants no type for the entries of a ring: it takes its size for a value's.
#[btf_map]
static EVENTS: RingBuf<(), EVENT_RING> = RingBuf::new();

#[btf_map]
static EVENT_GATE: Array<EventGate, 1> = Array::new();

#[btf_map]
static EVENT_BUDGET: PerCpuArray<EventBudget, 1> = PerCpuArray::new();

/// Tells of a SYN, if someone wants to hear of it. `done` adds what else became of it.
#[inline(always)]
pub(crate) fn report(
    syn: &Syn,
    outcome: Outcome,
    verdict: Verdict,
    done: impl FnOnce(Event) -> Event,
) {
    let Some(gate) = EVENT_GATE.get_ptr_mut(0) else {
        return;
    };
    // The gate's first field.
    let deadline = gate.cast::<u64>();
    // SAFETY: the kernel gave the pointer. The controller writes there meanwhile: nothing that was read
    // is taken to stay.
    let until = unsafe { ptr::read_volatile(deadline) };
    if until == 0 {
        return;
    }
    // SAFETY: it only reads a clock.
    let now = unsafe { bpf_ktime_get_ns() };
    if now > until {
        // It was killed. From now on the clock need not be read any more.
        // SAFETY: as above.
        unsafe { ptr::write_volatile(deadline, 0) };
        return;
    }
    // SAFETY: as above.
    let gate = unsafe { ptr::read_volatile(gate) };
    if gate.wants(syn, outcome) {
        tell(&done(Event::new(now, syn, outcome, verdict)), &gate);
    }
}

/// Puts an event into the ring, if the rate allows.
#[inline(always)]
fn tell(event: &Event, gate: &EventGate) {
    let Some(budget) = EVENT_BUDGET.get_ptr_mut(0) else {
        return;
    };
    // SAFETY: the value is this CPU's own, and no other run of the program comes in between on this
    // CPU: the reference ends before the program returns.
    let budget = unsafe { &mut *budget };
    if !budget.take(event.time, gate) {
        return;
    }
    // The reader looks at its own pace: a wake-up per event costs more than all the rest.
    let Some(mut entry) = EVENTS.reserve_untyped::<Event>(0) else {
        budget.ring_full = budget.ring_full.wrapping_add(1);
        return;
    };
    entry.write(*event);
    entry.submit(BPF_RB_NO_WAKEUP.into());
}
