//! The jump from the program that judges a SYN to the one that does what a policy says of it.

use aya_ebpf::{
    btf_maps::ProgramArray,
    macros::btf_map,
    programs::{TcContext, XdpContext},
};

/// The second program. Each kind has an array of its own, which takes no other kind.
#[btf_map]
static XDP_STAGES: ProgramArray<1> = ProgramArray::new();

#[btf_map]
static TC_STAGES: ProgramArray<1> = ProgramArray::new();

/// What a first program is run on.
pub(crate) trait Stage {
    /// Goes on in the second program; returns only where that is not there.
    fn enforce(&self);
}

impl Stage for XdpContext {
    #[inline(always)]
    fn enforce(&self) {
        // SAFETY: the context is the kernel's own.
        unsafe { XDP_STAGES.tail_call(self, 0) };
    }
}

impl Stage for TcContext {
    #[inline(always)]
    fn enforce(&self) {
        // SAFETY: the context is the kernel's own.
        unsafe { TC_STAGES.tail_call(self, 0) };
    }
}
