//! The data path: a program that holds every SYN against the cookie keys and counts what it came to. It
//! observes: whatever the frame, it goes on. It stands here twice, for XDP and for traffic control (TC);
//! an interface runs one of them.
//!
//! What a SYN is and what it counts is `tfo-common`'s knowledge. Here is only what needs the kernel:
//! [`frame`] reads packets, [`keys`], [`counters`], [`sources`] and [`events`] own the maps.
//!
//! On any target but BPF this is an empty program, so that the host's compiler and lints see the code.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod atomic;
mod counters;
mod events;
mod frame;
mod keys;
mod listeners;
mod socket;
mod sources;

use aya_ebpf::{
    EbpfContext,
    bindings::{tcx_action_base::TCX_NEXT, xdp_action},
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use tfo_common::{
    classify::Outcome,
    socket::Socket,
    wire::{self, NotSyn},
};

use crate::frame::{Packet, PacketFrame};

/// Sees every frame that the interface receives.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp(ctx: XdpContext) -> u32 {
    observe(&ctx);
    // Nothing here decides about a frame, and nothing here can fail in a way that costs one.
    xdp_action::XDP_PASS
}

/// Sees every packet that the interface receives, after XDP.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc(ctx: TcContext) -> i32 {
    observe(&ctx);
    // The next program decides; the same number has the next filter do so where there is no TCX.
    TCX_NEXT
}

/// Counts what the frame comes to, if it is a SYN.
#[inline(always)]
fn observe<P: Packet + EbpfContext>(ctx: &P) {
    ctx.pull();
    match wire::parse_behind(&PacketFrame::new(ctx), frame::link()) {
        Ok(syn) => {
            let socket = if Outcome::depends_on_socket(&syn) {
                socket::look_up(ctx, &syn)
            } else {
                Socket::Unknown
            };
            let outcome = Outcome::of(&syn, &socket, keys::in_force);
            counters::count_syn(&syn, outcome);
            // Ordinary SYNs pay for nothing below.
            if outcome != Outcome::NoOption || syn.data_len > 0 {
                sources::count(&syn, outcome);
                events::report(&syn, outcome);
            }
            #[cfg(feature = "trace")]
            trace(ctx, &syn, outcome);
        }
        Err(NotSyn::Unparsed) => counters::count_unparsed(),
        Err(NotSyn::Other) => {}
    }
}

/// One log line for a SYN that has to do with Fast Open.
#[cfg(feature = "trace")]
#[inline(always)]
fn trace(ctx: &impl EbpfContext, syn: &tfo_common::syn::Syn, outcome: Outcome) {
    if outcome != Outcome::NoOption {
        aya_log_ebpf::info!(
            ctx,
            "SYN to port {} with {} bytes of data: {}",
            syn.destination_port(),
            syn.data_len,
            outcome.name()
        );
    }
}

#[cfg(target_arch = "bpf")]
#[panic_handler]
fn panic(_: &core::panic::PanicInfo<'_>) -> ! {
    // Nothing here can panic; without this the program does not link.
    loop {}
}

/// The kernel lets only programs under a GPL-compatible licence call some of the helpers.
#[cfg(target_arch = "bpf")]
#[unsafe(link_section = "license")]
#[unsafe(no_mangle)]
static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[cfg(not(target_arch = "bpf"))]
fn main() {}
