//! The clock of rates, and of slots of time.

use aya_ebpf::helpers::bpf_ktime_get_coarse_ns;

/// The time in nanoseconds as of the kernel's last tick, some milliseconds ago at most: that is a memory access,
/// where the exact time is a serializing instruction (25 to 35 ns in a virtual machine).
#[inline(always)]
pub(crate) fn now() -> u64 {
    // SAFETY: it only reads a clock.
    unsafe { bpf_ktime_get_coarse_ns() }
}
