//! The SYN on its way from one program to the next.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use tfo_common::context::SynContext;

const WORDS: usize = size_of::<SynContext>().div_ceil(size_of::<u64>());

/// One [`SynContext`], as words: BTF cannot describe an enum with fields.
#[btf_map]
static SYN_CONTEXT: PerCpuArray<[u64; WORDS], 1> = PerCpuArray::new();

/// Saves `context` for a tail call. `false` if there is no map value, which cannot happen.
#[inline(always)]
pub(crate) fn save(context: &SynContext) -> bool {
    let Some(value) = SYN_CONTEXT.get_ptr_mut(0) else {
        return false;
    };
    // SAFETY: the value has room for a context, and is this CPU's own until the next frame.
    unsafe { ptr::write(value.cast(), *context) };
    true
}

/// The context that the first program saved.
#[inline(always)]
pub(crate) fn saved<'a>() -> Option<&'a mut SynContext> {
    // SAFETY: the program that made the tail call saved it. It is this CPU's own, and no other run of a program comes in
    // between: the reference ends before the program returns.
    unsafe { SYN_CONTEXT.get_ptr_mut(0)?.cast::<SynContext>().as_mut() }
}
