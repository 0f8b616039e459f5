//! What is known of a SYN when it has been judged, put down in memory.
//!
//! By then the verifier knows of each way that led there what it knew on that way: which header, which option,
//! which socket. It would follow everything behind once for each. Of what is read from a map it knows nothing:
//! all ways go on as one.

use core::ptr;

use aya_ebpf::{btf_maps::PerCpuArray, macros::btf_map};
use tfo_common::{classify::Judgement, syn::Syn};

/// A SYN and what was found about it.
pub(crate) struct Case {
    pub(crate) syn: Syn,
    pub(crate) judgement: Judgement,
}

const WORDS: usize = size_of::<Case>().div_ceil(size_of::<u64>());

/// One [`Case`], as words: BTF has no word for an enum with fields.
#[btf_map]
static CASE: PerCpuArray<[u64; WORDS], 1> = PerCpuArray::new();

impl Case {
    /// Puts it down until the program returns; `None` where there is no memory, which does not happen.
    #[inline(always)]
    pub(crate) fn put_down<'a>(syn: &Syn, judgement: Judgement) -> Option<&'a Self> {
        #[cfg_attr(
            not(target_arch = "bpf"),
            expect(unused_mut, reason = "the instruction below is BPF's")
        )]
        let mut case = CASE.get_ptr_mut(0)?.cast::<Self>();
        // SAFETY: it has room for a case, and is this CPU's own until the program returns.
        unsafe {
            ptr::write(
                case,
                Self {
                    syn: *syn,
                    judgement,
                },
            );
        }
        // The compiler, too, has to take it from there.
        #[cfg(target_arch = "bpf")]
        // SAFETY: a register copied to itself.
        unsafe {
            core::arch::asm!("{0} = {0}", inout(reg) case, options(nostack));
        }
        // SAFETY: written just now.
        unsafe { case.as_ref() }
    }
}
