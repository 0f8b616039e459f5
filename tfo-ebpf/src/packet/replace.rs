//! The ACK that opens a connection in the place of an earlier one.

use core::ptr;

use aya_ebpf::{
    bindings::BPF_F_INGRESS,
    helpers::{bpf_clone_redirect, bpf_l4_csum_replace, bpf_skb_store_bytes},
    programs::TcContext,
};
use tfo_common::wire::{
    ack::Ack,
    tcp::{CHECKSUM, DATA_OFFSET, MIN_HEADER_LEN, RST},
};

/// `tc_index` of a packet that arrives again. Nobody else uses the field any more.
const AGAIN: u32 = 0x7f0a;

/// Offset of the sequence number in the header.
const SEQUENCE: usize = 4;

/// `true` if the packet arrived before, and a reset of the connection in its way with it: one that is still there stays.
#[inline(always)]
pub(crate) fn is_second(ctx: &TcContext) -> bool {
    // SAFETY: the context is the kernel's own.
    unsafe { (*ctx.skb.skb).tc_index == AGAIN }
}

/// Has the packet of `ack` arrive again, and makes of this one the reset with this sequence number. The kernel handles this
/// one first.
#[inline(always)]
pub(crate) fn reset_and_repeat(ctx: &TcContext, ack: &Ack, number: u32) {
    let skb = ctx.skb.skb;
    let tcp = u32::from(ack.tcp);
    let (offset, checksum) = (tcp + DATA_OFFSET as u32, tcp + CHECKSUM as u32);
    let Ok(before) = ctx.load::<u16>(offset as usize) else {
        return;
    };
    // SAFETY: the context is the kernel's own.
    let index = unsafe { &raw mut (*skb).tc_index };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(index, AGAIN) };
    // SAFETY: as above.
    let repeated = unsafe { bpf_clone_redirect(skb, (*skb).ifindex, BPF_F_INGRESS.into()) } == 0;
    // SAFETY: as above.
    unsafe { ptr::write_volatile(index, 0) };
    if !repeated {
        return;
    }
    // The options become data, so that no timestamp is too old for the reset.
    let after = u16::from_ne_bytes([(MIN_HEADER_LEN as u8 / 4) << 4, RST]);
    let (sequence, number) = (ack.sequence.to_be(), number.to_be());
    // None of these can fail: the header is there, and writable after the first one.
    // SAFETY: as above; each value has its bytes.
    unsafe {
        bpf_skb_store_bytes(skb, offset, (&raw const after).cast(), 2, 0);
        bpf_skb_store_bytes(skb, tcp + SEQUENCE as u32, (&raw const number).cast(), 4, 0);
        bpf_l4_csum_replace(skb, checksum, before.into(), after.into(), 2);
        bpf_l4_csum_replace(skb, checksum, sequence.into(), number.into(), 4);
    }
}
