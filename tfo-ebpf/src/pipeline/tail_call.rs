//! Tail calls: the program that continues, on the same packet. One that succeeds does not return.

use aya_ebpf::{
    btf_maps::ProgramArray,
    macros::btf_map,
    programs::{TcContext, XdpContext},
};
use tfo_common::abi::{
    CHALLENGE_INDEX, EDGE_INDEX, GUARD_INDEX, POLICY_INDEX, TAIL_CALLS, TRANSLATE_INDEX,
};

/// An array takes programs of one kind only.
#[btf_map]
static XDP_TAIL_CALLS: ProgramArray<TAIL_CALLS> = ProgramArray::new();

#[btf_map]
static TC_TAIL_CALLS: ProgramArray<TAIL_CALLS> = ProgramArray::new();

/// A program that continues another.
#[derive(Clone, Copy)]
#[repr(u32)]
pub(crate) enum Program {
    Policy = POLICY_INDEX,
    Guard = GUARD_INDEX,
    Challenge = CHALLENGE_INDEX,
    Translate = TRANSLATE_INDEX,
    Edge = EDGE_INDEX,
}

/// A context from which programs are called.
pub(crate) trait TailCall {
    /// Continues in `program`; returns only if that is missing.
    fn tail_call(&self, program: Program);
}

impl TailCall for XdpContext {
    #[inline(always)]
    fn tail_call(&self, program: Program) {
        // SAFETY: the context is the kernel's own.
        unsafe { XDP_TAIL_CALLS.tail_call(self, program as u32) };
    }
}

impl TailCall for TcContext {
    #[inline(always)]
    fn tail_call(&self, program: Program) {
        // SAFETY: the context is the kernel's own.
        unsafe { TC_TAIL_CALLS.tail_call(self, program as u32) };
    }
}
