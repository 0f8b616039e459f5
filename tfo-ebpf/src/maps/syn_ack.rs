//! The SYN-ACK while it is written: its offsets are not known at load time, and the stack allows none such.

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use tfo_common::wire::syn_ack::{SynAck, WORDS};

#[btf_map]
static SYN_ACK: PerCpuArray<[u32; WORDS], 1> = PerCpuArray::new();

/// This CPU's SYN-ACK, with the content of the last one.
#[inline(always)]
pub(crate) fn scratch<'a>() -> Option<&'a mut SynAck> {
    // SAFETY: this CPU's own value, and a SYN-ACK is nothing but these words. The reference ends before the program
    // returns.
    unsafe { SYN_ACK.get_ptr_mut(0)?.cast::<SynAck>().as_mut() }
}
