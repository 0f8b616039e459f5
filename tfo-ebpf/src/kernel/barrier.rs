//! A barrier between the program and the verifier.

/// `value`, of which the verifier knows nothing any more: two exclusive ors with `noise`, which it does not know, change
/// nothing but leave every bit of the result unknown to it. See [`tfo_common::wire::Frame::barrier_var`].
#[inline(always)]
pub(crate) fn barrier_var(value: u64, noise: u64) -> u64 {
    #[cfg(target_arch = "bpf")]
    {
        let mut value = value;
        // SAFETY: arithmetic on two registers.
        unsafe {
            core::arch::asm!(
                "{value} ^= {noise}",
                "{value} ^= {noise}",
                value = inout(reg) value,
                noise = in(reg) noise,
                options(pure, nomem, nostack),
            );
        }
        value
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        value ^ noise ^ noise
    }
}
