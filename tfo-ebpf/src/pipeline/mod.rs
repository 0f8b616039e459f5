//! The path of a SYN, on one page. Each program is a function here; each step is a file.
//!
//! ```text
//! ingress    parse -> for a host behind this one? -> tail call to edge
//!            -> for this host? -> tail call to translate, to guard, to policy, or: classify -> finish
//! translate  an own cookie becomes the kernel's, and the SYN is classified -> as ingress goes on
//! guard      classify -> decide -> tail call to challenge, to policy, or: finish
//! edge       check the cookie -> decide -> tail call to challenge, or: finish
//! challenge  the frame becomes a SYN-ACK -> finish
//! policy     classify, if nobody did -> verdict, rewrite -> finish
//! ack        the answer to a challenge opens a connection, in traffic control
//! egress     the cookie in a SYN-ACK becomes an own cookie, in traffic control
//! handshake  a connection was opened: what the source does with its cookies, at a tracepoint
//! ```
//!
//! A SYN is classified once and counted once, whatever programs it passes: [`SynContext`] carries the results, and
//! [`mod@finish`] alone counts and reports. In one program the steps would be too much for the verifier and the stack, and
//! every SYN with an option would cost 25 ns more; a host without guard and policy pays for one load each.

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
mod step;
mod tail_call;

pub(crate) use ack::ack;
pub(crate) use egress::egress;
pub(crate) use handshake::handshake;
pub(crate) use step::Step;

use aya_ebpf::EbpfContext;
use tfo_common::{
    context::SynContext,
    guard::GuardAction,
    wire::{NotSyn, syn},
};

use self::{
    finish::finish,
    tail_call::{Program, TailCall},
};
use crate::{
    maps::{
        guard::{Armed, GuardScratch},
        moving::is_moving,
        syn_context,
    },
    packet::{
        answer::Answer,
        claim::Claim,
        read::{Packet, PacketFrame},
        write::WritePacket,
    },
};

/// The first program. No failure here costs a frame.
#[inline(always)]
pub(crate) fn ingress<C: EbpfContext + Packet + Claim + TailCall>(ctx: &C) -> Step {
    let claimed = ctx.pull_and_tell(is_moving);
    let parsed = syn::parse_behind(&PacketFrame::new(ctx), ctx.link());
    if matches!(parsed, Err(NotSyn::Other)) {
        return Step::Pass;
    }
    if is_moving() && (claimed || ctx.is_claimed()) {
        return Step::Pass;
    }
    let Ok(syn) = parsed else {
        return finish::unparsed(ctx);
    };
    let mut context = SynContext::new(syn);
    let armed = Armed::load();
    if edge::applies(armed, &context) && syn_context::save(&context) {
        ctx.tail_call(Program::Edge); // returns only if that program is missing
    }
    let guarded = guard::applies(armed, &context);
    if !guarded && !context.syn.concerns_fast_open() {
        // A path of its own: an ordinary SYN pays for nothing that depends on an outcome.
        context.classification = classify::ordinary(&context.syn);
        return finish(ctx, &context, Step::Pass);
    }
    if !host::receives_syn(ctx, &context.syn) {
        return finish::elsewhere(ctx);
    }
    if own_cookie::applies(&context) && syn_context::save(&context) {
        ctx.tail_call(Program::Translate); // returns only if that program is missing
    }
    if guarded && syn_context::save(&context) {
        ctx.tail_call(Program::Guard); // returns only if that program is missing
    }
    if policy::applies(&context) && syn_context::save(&context) {
        ctx.tail_call(Program::Policy); // returns only if that program is missing
    }
    context.classification = classify::classify(ctx, &context.syn);
    finish(ctx, &context, Step::Pass)
}

/// The program of a namespace with own cookies.
#[inline(always)]
pub(crate) fn translate(ctx: &(impl EbpfContext + Claim + TailCall + WritePacket)) -> Step {
    let Some(context) = syn_context::saved() else {
        return Step::Pass;
    };
    own_cookie::translate(ctx, context);
    if guard::applies(Armed::load(), context) {
        ctx.tail_call(Program::Guard); // returns only if that program is missing
    }
    if policy::applies(context) {
        ctx.tail_call(Program::Policy); // returns only if that program is missing
    }
    if !context.classification.is_done() {
        context.classification = classify::classify(ctx, &context.syn);
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
    if !context.classification.is_done() {
        context.classification = classify::classify_in_full(ctx, &context.syn, ());
    }
    let step = policy::policy(ctx, context);
    finish(ctx, context, step)
}
