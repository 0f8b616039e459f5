//! The clock of rates and time slots.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;

/// Nanoseconds of `CLOCK_MONOTONIC` at the kernel's last tick, some milliseconds ago at most. It is a memory access; the
/// exact time is a serializing instruction (25 to 35 ns in a virtual machine).
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: it only reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}
