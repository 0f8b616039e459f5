//! The first bytes of a SYN's data.

use core::mem::MaybeUninit;

use tfo_common::{
    policy::once::{DATA_WORDS, SynData},
    wire::syn::Syn,
};

use super::write::{Bytes, WritePacket, clear};
use crate::kernel::barrier::barrier_var;

/// Bytes of it.
const LEN: u32 = (DATA_WORDS * size_of::<u64>()) as u32;

impl Bytes for SynData {}

/// Reads the data of `syn`, the SYN of this frame, to `data`, and gives it; `None` if there is none, or it cannot be read.
#[inline(always)]
pub(crate) fn syn_data<'a>(
    frame: &impl WritePacket,
    syn: &Syn,
    data: &'a mut MaybeUninit<SynData>,
) -> Option<&'a SynData> {
    let data = clear(data);
    if syn.data_len == 0 {
        return None;
    }
    // From 1 to LEN, in a form that every verifier follows. LLVM cannot leave it out, since it does not know the value.
    let last = barrier_var((syn.data_len.min(LEN) - 1).into(), syn.sequence.into());
    let len = (last % u64::from(LEN)) as u32 + 1;
    let at = u32::from(syn.layout.tcp) + u32::from(syn.layout.header_len);
    // SAFETY: it has room for that many bytes.
    unsafe { frame.load(at, data.as_mut_ptr().cast(), len) }.then_some(data)
}
