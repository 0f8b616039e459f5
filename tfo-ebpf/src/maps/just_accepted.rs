//! Connections that were accepted a moment ago, per CPU: TCP may not know them yet.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use tfo_common::{guard::ack::JustAccepted, wire::ack::Ack};

const ENTRIES: usize = 64;
const WORDS: usize = size_of::<JustAccepted>() / size_of::<u64>();

#[btf_map]
static JUST_ACCEPTED: PerCpuArray<[u64; WORDS], ENTRIES> = PerCpuArray::new();

/// This CPU's entry for the connection of `ack`.
#[inline(always)]
fn entry(ack: &Ack) -> Option<*mut JustAccepted> {
    let entry = JUST_ACCEPTED.get_ptr_mut(JustAccepted::index(ack) % ENTRIES as u32)?;
    Some(entry.cast())
}

/// `true` if `ack` is of a connection that TCP may not know yet at `now`.
#[inline(always)]
pub(crate) fn covers(ack: &Ack, now: u64) -> bool {
    // SAFETY: this CPU's own value, whose words are an entry.
    entry(ack).is_some_and(|entry| unsafe { &*entry }.covers(ack, now))
}

/// Remembers the connection of `ack`, accepted at `now`.
#[inline(always)]
pub(crate) fn remember(ack: &Ack, now: u64) {
    if let Some(entry) = entry(ack) {
        // SAFETY: this CPU's own value, with room for an entry.
        unsafe { ptr::write(entry, JustAccepted::new(ack, now)) };
    }
}
