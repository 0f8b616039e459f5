//! Calls of kfuncs: `bpf_sk_assign_tcp_reqsk` (Linux 6.9), by which the kernel opens the connection that an ACK completes,
//! and `bpf_cast_to_kern_ctx` (Linux 6.2), which leads from a program's context to its device.
//!
//! aya 0.14 cannot relocate a kfunc: the object holds placeholder calls that the controller patches with the BTF ID. Where
//! the kernel lacks a kfunc, a constant keeps the verifier from reaching its calls, so that every kernel takes the object.

use core::{ffi::c_void, ptr};

use aya_ebpf::programs::TcContext;
use tfo_common::{
    abi::{ASSIGN_CALL, CAST_CALL},
    wire::options::negotiated::{TcpOptions, Timestamps},
};

/// Set by the controller before the program is loaded: not 0 where the call was patched.
#[unsafe(no_mangle)]
#[unsafe(link_section = ".rodata")]
static ASSIGN_PATCHED: u32 = 0;

/// The negotiated options: `struct bpf_tcp_req_attrs`, its bytes and halves combined into words, since LLVM would call
/// `memset` for odd bytes, which libbpf's loader refuses.
#[repr(C)]
pub(crate) struct RequestAttributes {
    tsval: u32,
    tsecr: u32,
    /// MSS (16 bits), our window scale, the client's.
    mss_and_scales: u32,
    /// ECN, window scaling, SACK, timestamps: a byte each.
    flags: u32,
    /// Microsecond timestamps, and three bytes of zero.
    rest: u32,
}

impl RequestAttributes {
    /// Of a connection with these options, on a host that advertises `window_scale`.
    #[inline(always)]
    pub(crate) fn new(options: TcpOptions, timestamps: Timestamps, window_scale: u32) -> Self {
        let (scaling, client_scale) = match options.window_scale() {
            Some(scale) => (true, scale),
            None => (false, 0),
        };
        let own_scale = if scaling { window_scale } else { 0 };
        let mss_and_scales =
            u32::from(options.mss()) | own_scale << 16 | u32::from(client_scale) << 24;
        let flags = u32::from(options.ecn())
            | u32::from(scaling) << 8
            | u32::from(options.sack()) << 16
            | u32::from(options.timestamps()) << 24;
        Self {
            tsval: timestamps.tsval,
            tsecr: timestamps.tsecr,
            mss_and_scales: mss_and_scales.to_le(),
            flags: flags.to_le(),
            rest: 0,
        }
    }
}

/// Has the kernel open the connection at the listener `tcp`. `false` if it refuses.
#[inline(always)]
pub(crate) fn assign(ctx: &TcContext, tcp: usize, attributes: &RequestAttributes) -> bool {
    // SAFETY: a live constant. Volatile, or LLVM would take the value above for granted.
    if unsafe { ptr::read_volatile(&raw const ASSIGN_PATCHED) } == 0 {
        return false;
    }
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = (ctx, tcp, attributes, ASSIGN_CALL);
        false
    }
    #[cfg(target_arch = "bpf")]
    {
        let result: i64;
        // SAFETY: the controller replaces the placeholder's number with the kfunc's BTF ID; these are its arguments, and
        // the verifier checks them.
        unsafe {
            core::arch::asm!(
                "call {call}",
                call = const ASSIGN_CALL,
                inout("r1") ctx.skb.skb => _,
                inout("r2") tcp => _,
                inout("r3") ptr::from_ref(attributes) => _,
                inout("r4") size_of::<RequestAttributes>() => _,
                out("r5") _,
                lateout("r0") result,
            );
        }
        // The kfunc's result is an int.
        result as i32 == 0
    }
}

/// The kernel's structure of a program's context. Only where [`tfo_common::abi::DeviceOffsets::known`] is set: elsewhere the
/// call is not patched.
#[inline(always)]
pub(crate) fn cast(ctx: *mut c_void) -> usize {
    #[cfg(not(target_arch = "bpf"))]
    {
        let _ = (ctx, CAST_CALL);
        0
    }
    #[cfg(target_arch = "bpf")]
    {
        let result: usize;
        // SAFETY: the controller replaces the placeholder's number with the kfunc's BTF ID; the context is its argument.
        unsafe {
            core::arch::asm!(
                "call {call}",
                call = const CAST_CALL,
                inout("r1") ctx => _,
                out("r2") _,
                out("r3") _,
                out("r4") _,
                out("r5") _,
                lateout("r0") result,
            );
        }
        result
    }
}
