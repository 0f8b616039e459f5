//! Accesses of packet memory at any address.
//!
//! They are written as instructions where the machine takes them unaligned: LLVM would make byte accesses of them.

/// The little-endian half word at `address`.
///
/// # Safety
///
/// The 2 bytes at `address` are within the packet.
#[inline(always)]
pub(super) unsafe fn load_half(address: usize) -> u16 {
    #[cfg(all(
        target_arch = "bpf",
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    ))]
    {
        let half: u64;
        // SAFETY: the caller's; both machines read unaligned half words.
        unsafe {
            core::arch::asm!(
                "{half} = *(u16 *)({address} + 0)",
                half = lateout(reg) half,
                address = in(reg) address,
                options(pure, readonly),
            );
        }
        half as u16
    }
    #[cfg(not(all(
        target_arch = "bpf",
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    )))]
    {
        let bytes = address as *const [u8; 2];
        // SAFETY: the caller's; bytes have no alignment.
        u16::from_le_bytes(unsafe { core::ptr::read(bytes) })
    }
}

/// The little-endian word at `address`.
///
/// # Safety
///
/// The 8 bytes at `address` are within the packet.
#[inline(always)]
pub(super) unsafe fn load_word(address: usize) -> u64 {
    #[cfg(all(
        target_arch = "bpf",
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    ))]
    {
        let word: u64;
        // SAFETY: the caller's; both machines read unaligned words.
        unsafe {
            core::arch::asm!(
                "{word} = *(u64 *)({address} + 0)",
                word = lateout(reg) word,
                address = in(reg) address,
                options(pure, readonly),
            );
        }
        word
    }
    #[cfg(not(all(
        target_arch = "bpf",
        target_endian = "little",
        any(bpf_target_arch = "x86_64", bpf_target_arch = "aarch64")
    )))]
    {
        let bytes = address as *const [u8; 8];
        // SAFETY: the caller's; bytes have no alignment.
        u64::from_le_bytes(unsafe { core::ptr::read(bytes) })
    }
}
