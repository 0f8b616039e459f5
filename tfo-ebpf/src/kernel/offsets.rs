//! Fields of kernel structures: their offsets, and loads of them.
//!
//! Kernels differ in their structures. The controller takes the offsets from the running kernel's BTF and puts them into a
//! constant; the verifier then knows them, and checks every load against the same BTF.

use core::ptr;

use tfo_common::abi::SocketOffsets;

/// Set by the controller before the program is loaded.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
pub(crate) static SOCKET_OFFSETS: SocketOffsets = SocketOffsets {
    known: 0,
    ack_backlog: 0,
    max_ack_backlog: 0,
    net: 0,
    sysctl_fastopen: 0,
    sysctl_syncookies: 0,
    syn_queue_len: 0,
    rst_head: 0,
    fastopen_qlen: 0,
    fastopen_max_qlen: 0,
    keys: 0,
    host_keys: 0,
    context_key: 0,
    context_num: 0,
    copies_keys: 0,
    expires: 0,
    no_cookie: 0,
    no_cookie_mask: 0,
    md5_keys: 0,
    ao_keys: 0,
    fault_from: 0,
    sysctl_timestamps: 0,
    sysctl_sack: 0,
    sysctl_window_scaling: 0,
    sysctl_ecn: 0,
    receive_buffer: 0,
    mptcp: 0,
    tw_substate: 0,
    rcv_nxt: 0,
    ts_recent: 0,
    ts_recent_stamp: 0,
    checks_reopened: 0,
    state: 0,
    family: 0,
    port: 0,
    ipv4: 0,
    ipv6: 0,
};

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
