//! A SYN that was read, put down in memory by the first program and taken up by the second.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use tfo_common::syn::Syn;

/// A SYN, and the policy under which it came ([`crate::policy::head`]).
pub(crate) struct Case {
    pub(crate) policy: u64,
    pub(crate) syn: Syn,
}

const WORDS: usize = size_of::<Case>().div_ceil(size_of::<u64>());

/// One [`Case`], as words: BTF has no word for an enum with fields.
#[btf_map]
static CASE: PerCpuArray<[u64; WORDS], 1> = PerCpuArray::new();

impl Case {
    /// Puts it down for the second program, which follows on this CPU before any other run. `false` where
    /// there is no memory, which does not happen.
    #[inline(always)]
    pub(crate) fn put_down(policy: u64, syn: &Syn) -> bool {
        let Some(place) = CASE.get_ptr_mut(0) else {
            return false;
        };
        let case = Self { policy, syn: *syn };
        // SAFETY: it has room for a case, and is this CPU's own until the second program returns.
        unsafe { ptr::write(place.cast(), case) };
        true
    }

    /// The one that was put down.
    #[inline(always)]
    pub(crate) fn take_up<'a>() -> Option<&'a Self> {
        // SAFETY: the first program put it there just now.
        unsafe { CASE.get_ptr(0)?.cast::<Self>().as_ref() }
    }
}
