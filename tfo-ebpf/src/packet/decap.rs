//! The tunnels that the interface reads through: constants of the program.

use core::ptr;

use tfo_common::wire::{
    addresses::Address,
    tunnel::{Decap, MAX_SOURCES, OuterSource, Tunnels},
};

/// Set by the controller before the program is loaded. The verifier knows it, and removes the code for what is off.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static DECAP: Decap = Decap::OFF;

/// The tunnels of [`DECAP`].
#[derive(Clone, Copy)]
pub(crate) struct OfInterface;

impl Tunnels for OfInterface {
    #[inline(always)]
    fn protocols(self) -> u32 {
        // SAFETY: a live constant. Volatile, or LLVM would take the value above for granted.
        unsafe { ptr::read_volatile(&raw const DECAP.protocols) }
    }

    #[inline(always)]
    fn port(self, index: usize) -> u32 {
        // SAFETY: callers' indexes are below the number of ports. As above.
        unsafe { ptr::read_volatile((&raw const DECAP.ports).cast::<u32>().wrapping_add(index)) }
    }
}

/// `true` if the interface reads through any tunnel.
#[inline(always)]
pub(crate) fn is_on() -> bool {
    OfInterface.protocols() != 0
}

/// `true` if outer packets from `address` are read through.
#[inline(always)]
pub(crate) fn is_source(address: &Address) -> bool {
    for index in 0..MAX_SOURCES {
        let source = (&raw const DECAP.sources)
            .cast::<OuterSource>()
            .wrapping_add(index);
        // SAFETY: one of the constant's entries. As above.
        if unsafe { ptr::read_volatile(source) }.holds(address) {
            return true;
        }
    }
    false
}
