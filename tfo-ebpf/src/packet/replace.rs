//! The ACK that opens a connection in the place of an earlier one.

use core::ptr;

use aya_ebpf::{bindings::BPF_F_INGRESS, programs::TcContext};
use tfo_common::wire::{
    ack::Ack,
    tcp::{CHECKSUM, DATA_OFFSET, MIN_HEADER_LEN, RST},
};

/// `tc_index` of a packet that arrives again. Few use the field, and none with this value.
const AGAIN: u32 = 0x7f0a;

/// Offset of the sequence number in the header.
const SEQUENCE: usize = 4;

/// Words of options in the longest header.
const MAX_OPTIONS: usize = 10;
/// Options that say nothing: NOP.
const NOTHING: u32 = 0x0101_0101;

/// `true` if the packet arrived before, and a reset of the connection in its way with it: one that is still there stays.
#[inline(always)]
pub(crate) fn is_second(ctx: &TcContext) -> bool {
    let is_second = index(ctx) == AGAIN;
    if is_second {
        set_index(ctx, 0);
    }
    is_second
}

/// Has the packet of `ack` arrive again, and makes of this one the reset with this sequence number. The kernel handles this
/// one first.
#[inline(always)]
pub(crate) fn reset_and_repeat(ctx: &TcContext, ack: &Ack, number: u32) {
    let tcp = usize::from(ack.tcp);
    let Ok(before) = ctx.load::<[u8; 2]>(tcp + DATA_OFFSET) else {
        return;
    };
    // SAFETY: the context is the kernel's own.
    let device = unsafe { (*ctx.skb.skb).ifindex };
    let own_index = index(ctx);
    set_index(ctx, AGAIN);
    let repeated = ctx.clone_redirect(device, BPF_F_INGRESS.into());
    set_index(ctx, own_index);
    if repeated.is_err() {
        return;
    }
    let checksum = tcp + CHECKSUM;
    let change = |at: usize, old: u32, new: u32| {
        // Neither can fail: the header is there, and writable after the first time.
        let _ = ctx.store(at, &new, 0);
        let _ = ctx.l4_csum_replace(checksum, old.into(), new.into(), 4);
    };
    change(tcp + SEQUENCE, ack.sequence.to_be(), number.to_be());
    // A timestamp might be too old for the reset.
    let options = usize::from(before[0] >> 4).saturating_sub(MIN_HEADER_LEN / 4);
    for index in 0..MAX_OPTIONS {
        let at = tcp + MIN_HEADER_LEN + 4 * index;
        match ctx.load(at) {
            Ok(old) if index < options => change(at, old, NOTHING),
            _ => break,
        }
    }
    let after = [before[0], RST];
    let halves = [before, after].map(|bytes| u16::from_ne_bytes(bytes).into());
    let _ = ctx.store(tcp + DATA_OFFSET, &after, 0);
    let _ = ctx.l4_csum_replace(checksum, halves[0], halves[1], 2);
}

#[inline(always)]
fn index(ctx: &TcContext) -> u32 {
    // SAFETY: the context is the kernel's own.
    unsafe { (*ctx.skb.skb).tc_index }
}

#[inline(always)]
fn set_index(ctx: &TcContext, value: u32) {
    // SAFETY: the context is the kernel's own.
    let index = unsafe { &raw mut (*ctx.skb.skb).tc_index };
    // SAFETY: as above.
    unsafe { ptr::write_volatile(index, value) };
}
