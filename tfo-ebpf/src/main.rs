//! The data path: programs that hold every SYN against the cookie keys, count the outcome, and apply the guard and the
//! policy where there are any. It exists twice, for XDP and for traffic control (TC); an interface runs one of them.
//!
//! Here are the entry points. [`pipeline`] has the path of a SYN on one page; [`packet`] reads and writes packet memory;
//! [`kernel`] asks the kernel for sockets and time; [`maps`] owns the maps. Protocol knowledge and decisions are
//! `tfo-common`'s.
//!
//! Their bodies are inlined: a tail call that a function of the program makes returns to the program, not to the kernel.
//!
//! On any target but BPF this is an empty program, so that the host's compiler and lints see the code.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod kernel;
mod maps;
mod packet;
mod pipeline;

use aya_ebpf::{
    bindings::{
        tcx_action_base::{TCX_DROP, TCX_NEXT, TCX_REDIRECT},
        xdp_action,
    },
    macros::{classifier, raw_tracepoint, xdp},
    programs::{RawTracePointContext, TcContext, XdpContext},
};

use crate::pipeline::Step;

/// Sees every frame that the interface receives.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::ingress(&ctx))
}

/// Continues [`tfo_xdp`] at a port with a guard.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_guard(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::guard(&ctx))
}

/// Continues [`tfo_xdp`] where a host behind this one has a guard here.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_edge(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::edge(&ctx))
}

/// Continues [`tfo_xdp_guard`] where a SYN is challenged.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_challenge(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::challenge(&ctx))
}

/// Continues [`tfo_xdp`] or [`tfo_xdp_guard`] where a policy is in force.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_policy(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::policy(&ctx))
}

/// Continues [`tfo_xdp`] where a SYN may have an own cookie.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_own(ctx: XdpContext) -> u32 {
    xdp_action(pipeline::translate(&ctx))
}

/// Sees every packet that the interface receives, after XDP.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc(ctx: TcContext) -> i32 {
    tc_action(pipeline::ingress(&ctx))
}

/// Continues [`tfo_tc`] at a port with a guard.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_guard(ctx: TcContext) -> i32 {
    tc_action(pipeline::guard(&ctx))
}

/// Continues [`tfo_tc`] where a host behind this one has a guard here.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_edge(ctx: TcContext) -> i32 {
    tc_action(pipeline::edge(&ctx))
}

/// Continues [`tfo_tc_guard`] where a SYN is challenged.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_challenge(ctx: TcContext) -> i32 {
    tc_action(pipeline::challenge(&ctx))
}

/// Continues [`tfo_tc`] or [`tfo_tc_guard`] where a policy is in force.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_policy(ctx: TcContext) -> i32 {
    tc_action(pipeline::policy(&ctx))
}

/// Continues [`tfo_tc`] where a SYN may have an own cookie.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_own(ctx: TcContext) -> i32 {
    tc_action(pipeline::translate(&ctx))
}

/// Sees every packet that the interface sends, where own cookies are in force, in either mode.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_egress(ctx: TcContext) -> i32 {
    tc_action(pipeline::egress(&ctx))
}

/// Sees every packet on an interface with a guard, in either mode: takes the answers to challenges.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_ack(ctx: TcContext) -> i32 {
    tc_action(pipeline::ack(&ctx))
}

/// Sees every change of a TCP socket's state on the host, where a policy withholds cookies.
#[inline(always)]
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[raw_tracepoint(tracepoint = "inet_sock_set_state")]
fn tfo_handshakes(ctx: RawTracePointContext) -> i32 {
    pipeline::handshake(&ctx);
    0
}

#[inline(always)]
const fn xdp_action(step: Step) -> u32 {
    match step {
        Step::Continue | Step::Pass => xdp_action::XDP_PASS,
        Step::Drop => xdp_action::XDP_DROP,
        Step::Transmit => xdp_action::XDP_TX,
    }
}

/// `TCX_NEXT` lets the next program decide; its number, -1, has the next filter do so where there is no TCX. The others are
/// numbers of either.
#[inline(always)]
const fn tc_action(step: Step) -> i32 {
    match step {
        Step::Continue | Step::Pass => TCX_NEXT,
        Step::Drop => TCX_DROP,
        // The packet has its device by then.
        Step::Transmit => TCX_REDIRECT,
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
