//! The path of a SYN, on one page. Each program is a function here; each step is a file.
//!
//! ```text
//! ingress    parse, also through a tunnel -> is that tunnel for this host?
//!            -> for a host behind this one? -> tail call to edge
//!            -> for this host? -> tail call to translate, to guard, or: classify
//!            -> tail call to policy, where that acts on SYNs of the class, or: finish
//! translate  an own cookie becomes the kernel's, and the SYN is classified -> as ingress goes on
//! guard      classify -> decide -> tail call to challenge, to policy, or: finish
//! edge       check the cookie -> decide -> tail call to challenge, or: finish
//! challenge  the frame becomes a SYN-ACK -> finish
//! policy     verdict, rewrite -> finish
//! ack        the answer to a challenge opens a connection, in traffic control
//! egress     the cookie in a SYN-ACK becomes an own cookie, in traffic control
//! handshake  a connection was opened: what the source does with its cookies, at a tracepoint
//! ```
//!
//! A SYN is classified once and counted once, whatever programs it passes: [`SynContext`] carries the results, and
//! [`mod@finish`] alone counts and reports. In one program the steps would be too much for the verifier and the stack, and
//! every SYN with an option would cost 25 ns more; a host without guard and policy pays for one load.

mod ack;
mod challenge;
mod classify;
mod edge;
mod egress;
mod finish;
mod guard;
mod handshake;
mod host;
mod own_cookie;
mod policy;
mod route;
mod step;
mod tail_call;
mod tunnel;

pub(crate) use ack::ack;
pub(crate) use egress::egress;
pub(crate) use handshake::handshake;
pub(crate) use step::Step;

use aya_ebpf::EbpfContext;
use tfo_common::{
    context::SynContext,
    guard::GuardAction,
    switches::Switches,
    wire::{
        Link, NotSyn,
        syn::{self, Sight},
    },
};

use self::{
    finish::finish,
    tail_call::{Program, TailCall},
};
use crate::{
    maps::{guard::GuardScratch, switches, syn_context},
    packet::{
        answer::Answer,
        claim::Claim,
        decap,
        read::{Packet, PacketFrame},
        write::WritePacket,
    },
};

/// The first program. No failure here costs a frame.
#[inline(always)]
pub(crate) fn ingress<C: EbpfContext + Packet + Claim + TailCall>(ctx: &C) -> Step {
    let claimed = ctx.pull_and_tell();
    let frame = PacketFrame::new(ctx);
    let sight = match ctx.link() {
        Link::Ethernet => syn::at_sight(&frame),
        Link::None => Sight::Unclear,
    };
    if matches!(sight, Sight::NotSyn) {
        return Step::Pass;
    }
    let parsed = syn::parse_through(&frame, ctx.link(), sight, decap::OfInterface);
    // Loaded on each way, or LLVM would keep what an ordinary packet does not need.
    let Ok(arrived) = parsed else {
        if matches!(parsed, Err(NotSyn::Other)) {
            return Step::Pass;
        }
        let switches = switches::load();
        if is_anothers(ctx, claimed, switches) {
            return Step::Pass;
        }
        return finish::unparsed(ctx, switches);
    };
    let mut switches = switches::load();
    if is_anothers(ctx, claimed, switches) {
        return Step::Pass;
    }
    if tunnel::was_read(&arrived) {
        if !tunnel::is_accepted(ctx, &arrived) {
            return finish::elsewhere(ctx, switches);
        }
        switches = tunnel::switches(switches);
    }
    let mut context = SynContext::new(arrived.syn, switches);
    if edge::applies(&context) && syn_context::save(&context) {
        ctx.tail_call(Program::Edge); // returns only if that program is missing
    }
    let guarded = guard::applies(&context);
    if !guarded && !context.syn.concerns_fast_open() {
        // A path of its own: an ordinary SYN pays for nothing that depends on an outcome.
        context.classification = classify::ordinary(&context.syn);
        return finish(ctx, &context, Step::Pass);
    }
    if !host::receives_syn(ctx, &context.syn) {
        return finish::elsewhere(ctx, switches);
    }
    if own_cookie::applies(&context) && syn_context::save(&context) {
        ctx.tail_call(Program::Translate); // returns only if that program is missing
    }
    if guarded && syn_context::save(&context) {
        ctx.tail_call(Program::Guard); // returns only if that program is missing
    }
    context.classification = classify::classify(ctx, &context.syn, switches.has_policy(), ());
    if policy::applies(&context) && syn_context::save(&context) {
        ctx.tail_call(Program::Policy); // returns only if that program is missing
    }
    finish(ctx, &context, Step::Pass)
}

/// `true` if the program at another hook has claimed the packet, now or, as `claimed` says, before its headers were pulled.
#[inline(always)]
fn is_anothers(ctx: &impl Claim, claimed: bool, switches: Switches) -> bool {
    switches.has(Switches::MOVING) && (claimed || ctx.is_claimed())
}

/// The program of a namespace with own cookies.
#[inline(always)]
pub(crate) fn translate(ctx: &(impl EbpfContext + Claim + TailCall + WritePacket)) -> Step {
    let Some(context) = syn_context::saved() else {
        return Step::Pass;
    };
    own_cookie::translate(ctx, context);
    if guard::applies(context) {
        ctx.tail_call(Program::Guard); // returns only if that program is missing
    }
    if !context.classification.is_done() {
        let in_full = context.switches.has_policy();
        context.classification = classify::classify(ctx, &context.syn, in_full, ());
    }
    if policy::applies(context) {
        ctx.tail_call(Program::Policy); // returns only if that program is missing
    }
    finish(ctx, context, Step::Pass)
}

/// The program of a port with a guard.
#[inline(always)]
pub(crate) fn guard(ctx: &(impl EbpfContext + Claim + TailCall)) -> Step {
    let (Some(context), Some(scratch)) = (syn_context::saved(), GuardScratch::get()) else {
        return Step::Pass;
    };
    match guard::guard(ctx, context, scratch) {
        Step::Transmit => {
            ctx.tail_call(Program::Challenge); // returns only if that program is missing
            context.guard = context.guard.with_action(GuardAction::Unanswered);
        }
        Step::Continue | Step::Pass | Step::Drop => {}
    }
    if policy::applies(context) {
        ctx.tail_call(Program::Policy); // returns only if that program is missing
    }
    finish(ctx, context, Step::Pass)
}

/// The program of a namespace that guards hosts behind it.
#[inline(always)]
pub(crate) fn edge(ctx: &(impl EbpfContext + Answer + Claim + TailCall)) -> Step {
    let (Some(context), Some(scratch)) = (syn_context::saved(), GuardScratch::get()) else {
        return Step::Pass;
    };
    if edge::edge(ctx, context, scratch) == Step::Transmit {
        ctx.tail_call(Program::Challenge); // returns only if that program is missing
        context.guard = context.guard.with_action(GuardAction::Unanswered);
        scratch.note_passed();
    }
    finish::at_edge(ctx, context, Step::Pass)
}

/// The program that answers a SYN with a challenge.
#[inline(always)]
pub(crate) fn challenge(ctx: &(impl EbpfContext + Answer + Claim + TailCall)) -> Step {
    let (Some(context), Some(scratch)) = (syn_context::saved(), GuardScratch::get()) else {
        return Step::Pass;
    };
    let step = challenge::challenge(ctx, context, scratch);
    if scratch.is_edge() {
        if step == Step::Pass {
            scratch.note_passed();
        }
        return finish::at_edge(ctx, context, step);
    }
    if step == Step::Pass && policy::applies(context) {
        ctx.tail_call(Program::Policy); // returns only if that program is missing
    }
    finish(ctx, context, step)
}

/// The program of a namespace with a policy.
#[inline(always)]
pub(crate) fn policy(ctx: &(impl EbpfContext + Claim + WritePacket)) -> Step {
    let Some(context) = syn_context::saved() else {
        return Step::Pass;
    };
    let step = policy::policy(ctx, context);
    finish(ctx, context, step)
}
