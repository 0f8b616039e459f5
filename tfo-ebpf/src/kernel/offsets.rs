//! Fields of kernel structures: their offsets, and loads of them.
//!
//! Kernels differ in their structures. The controller takes the offsets from the running kernel's BTF and puts them into a
//! constant; the verifier then knows them, and checks every load against the same BTF.

use core::ptr;

use tfo_common::abi::SocketOffsets;

/// Set by the controller before the program is loaded.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
pub(crate) static SOCKET_OFFSETS: SocketOffsets = SocketOffsets::UNKNOWN;

/// The offset of a field. Volatile, or LLVM would take the value above for granted; the verifier knows the real one.
macro_rules! offset {
    ($field:ident) => {
        // SAFETY: a field of a live constant.
        unsafe {
            core::ptr::read_volatile(&raw const $crate::kernel::offsets::SOCKET_OFFSETS.$field)
                as usize
        }
    };
}
pub(crate) use offset;

/// Reads a field of a kernel structure.
#[inline(always)]
pub(crate) fn load<T: Copy>(address: usize) -> T {
    // SAFETY: the verifier knows which structure the address points into and has checked that a field
    // of this size is there. The kernel catches a fault of a pointer that was followed.
    unsafe { ptr::read_volatile(address as *const T) }
}
