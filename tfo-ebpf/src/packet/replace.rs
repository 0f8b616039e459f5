//! The ACK that opens a connection in the place of an earlier one.

use core::ptr;

use aya_ebpf::{bindings::BPF_F_INGRESS, programs::TcContext};
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
    let tcp = usize::from(ack.tcp);
    let Ok(before) = ctx.load::<u16>(tcp + DATA_OFFSET) else {
        return;
    };
    // SAFETY: the context is the kernel's own.
    let device = unsafe { (*ctx.skb.skb).ifindex };
    mark(ctx, AGAIN);
    let repeated = ctx.clone_redirect(device, BPF_F_INGRESS.into());
    mark(ctx, 0);
    if repeated.is_err() {
        return;
    }
    // The options become data, so that no timestamp is too old for the reset.
    let after = u16::from_ne_bytes([(MIN_HEADER_LEN as u8 / 4) << 4, RST]);
    let (sequence, number) = (ack.sequence.to_be(), number.to_be());
    // None of these can fail: the header is there, and writable after the first one.
    let _ = ctx.store(tcp + DATA_OFFSET, &after, 0);
    let _ = ctx.store(tcp + SEQUENCE, &number, 0);
    let _ = ctx.l4_csum_replace(tcp + CHECKSUM, before.into(), after.into(), 2);
    let _ = ctx.l4_csum_replace(tcp + CHECKSUM, sequence.into(), number.into(), 4);
}

#[inline(always)]
fn mark(ctx: &TcContext, value: u32) {
    // SAFETY: the context is the kernel's own.
    let index = unsafe { &raw mut (*ctx.skb.skb).tc_index };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(index, value) };
}
