//! The jumps from the program that judges a SYN to the ones that challenge it, or do what a policy says of it.

use aya_ebpf::{
    btf_maps::ProgramArray,
    macros::btf_map,
    programs::{TcContext, XdpContext},
};

use tfo_common::maps::{CHALLENGE_STAGE, GUARD_STAGE, POLICY_STAGE};

/// The programs that a first one jumps to. Each kind has an array of its own, which takes no other kind.
#[btf_map]
static XDP_STAGES: ProgramArray<3> = ProgramArray::new();

#[btf_map]
static TC_STAGES: ProgramArray<3> = ProgramArray::new();

/// What a first program is run on.
pub(crate) trait Stage {
    /// Whether there can be a guard: only XDP answers a frame.
    const GUARDS: bool;

    /// Goes on in the program for policies; returns only where that is not there.
    fn enforce(&self);

    /// Goes on in the guard's program; returns only where that is not there.
    fn guard(&self) {}

    /// Goes on in the program that answers; returns only where that is not there.
    fn challenge(&self) {}
}

impl Stage for XdpContext {
    const GUARDS: bool = true;

    #[inline(always)]
    fn enforce(&self) {
        // SAFETY: the context is the kernel's own.
        unsafe { XDP_STAGES.tail_call(self, POLICY_STAGE) };
    }

    #[inline(always)]
    fn guard(&self) {
        // SAFETY: the context is the kernel's own.
        unsafe { XDP_STAGES.tail_call(self, GUARD_STAGE) };
    }

    #[inline(always)]
    fn challenge(&self) {
        // SAFETY: the context is the kernel's own.
        unsafe { XDP_STAGES.tail_call(self, CHALLENGE_STAGE) };
    }
}

impl Stage for TcContext {
    const GUARDS: bool = false;

    #[inline(always)]
    fn enforce(&self) {
        // SAFETY: the context is the kernel's own.
        unsafe { TC_STAGES.tail_call(self, POLICY_STAGE) };
    }
}
