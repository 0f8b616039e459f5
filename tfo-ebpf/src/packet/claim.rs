//! The choice of the program that counts a packet, while the data path moves from XDP to traffic
//! control or back and both are attached: the first program that sees the packet, which then leaves
//! a mark in front of it.

use core::ptr;

use aya_ebpf::{
    helpers::bpf_xdp_adjust_meta,
    programs::{TcContext, XdpContext},
};

use super::read::{Packet as _, device_link};
use crate::kernel::barrier::barrier_var;

/// The mark: metadata that the kernel carries from XDP to traffic control.
const MARK: u32 = u32::from_ne_bytes(*b"tfo!");
const LEN: u32 = size_of::<u32>() as u32;

/// A packet that another program of the same data path may have met.
pub(crate) trait Claim {
    /// Another program has claimed the packet.
    fn is_claimed(&self) -> bool;

    /// Makes the headers readable. `true` if another program had claimed the packet: its mark is lost then, and
    /// [`Self::is_claimed`] does not tell any more.
    fn pull_and_tell(&self) -> bool;

    /// Claims the packet for this program.
    fn claim(&self);
}

impl Claim for XdpContext {
    #[inline(always)]
    fn is_claimed(&self) -> bool {
        // XDP comes first.
        false
    }

    #[inline(always)]
    fn pull_and_tell(&self) -> bool {
        false
    }

    #[inline(always)]
    fn claim(&self) {
        // SAFETY: the context is the kernel's own, and no pointer into the packet lives on. Drivers without metadata refuse:
        // a packet on its way at the moment of the move then counts twice.
        if unsafe { bpf_xdp_adjust_meta(self.ctx, -LEN.cast_signed()) } != 0 {
            return;
        }
        // SAFETY: the context is the kernel's own.
        let context = unsafe { &*self.ctx };
        let (meta, data) = (context.data_meta as usize, context.data as usize);
        if meta + LEN as usize <= data {
            // SAFETY: the word lies between the two.
            unsafe { ptr::write_volatile(meta as *mut u32, MARK) };
        }
    }
}

impl Claim for TcContext {
    #[inline(always)]
    fn is_claimed(&self) -> bool {
        // A copy that generic XDP made: `data_meta` does not point to its metadata.
        if self.link() != device_link() {
            return true;
        }
        // SAFETY: the context is the kernel's own.
        let skb = unsafe { &*self.skb.skb };
        let (meta, data) = (skb.data_meta as usize, skb.data as usize);
        // SAFETY: the word lies between the two.
        meta + LEN as usize <= data && unsafe { ptr::read_volatile(meta as *const u32) } == MARK
    }

    #[inline(always)]
    fn pull_and_tell(&self) -> bool {
        let mut claimed = false;
        if self.is_scattered() {
            claimed = self.is_claimed();
            self.pull();
        }
        // The verifier then follows the rest once, not once for each answer.
        barrier_var(claimed.into(), self.len().into()) != 0
    }

    #[inline(always)]
    fn claim(&self) {
        // No other comes behind it.
    }
}
