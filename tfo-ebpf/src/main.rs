//! The data path: a program that holds every SYN against the cookie keys and counts what it came to. Where
//! a policy is set, it does what that says; else, whatever the frame, it goes on as it came. It stands here
//! twice, for XDP and for traffic control (TC); an interface runs one of them.
//!
//! In each place there are two programs. The first judges; the second, to which it jumps where there is a
//! policy, does what that says.
//!
//! What a SYN is, what it counts and what is done to it is `tfo-common`'s knowledge. Here is only what needs
//! the kernel: [`frame`] reads packets, [`rewrite`] changes them, [`keys`], [`policy`], [`counters`],
//! [`sources`] and [`events`] own the maps.
//!
//! On any target but BPF this is an empty program, so that the host's compiler and lints see the code.

#![cfg_attr(target_arch = "bpf", no_std, no_main, feature(asm_experimental_arch))]

mod atomic;
mod case;
mod clock;
mod counters;
mod events;
mod frame;
mod guard;
mod keys;
mod listeners;
mod nested;
mod policy;
mod proof;
mod reply;
mod rewrite;
mod site;
mod socket;
mod sources;
mod stage;

use aya_ebpf::{
    EbpfContext,
    bindings::{
        tcx_action_base::{TCX_DROP, TCX_NEXT},
        xdp_action,
    },
    macros::{classifier, xdp},
    programs::{TcContext, XdpContext},
};
use tfo_common::{
    classify::Outcome,
    counters::Counter,
    guard::Reaction,
    judgement::Judgement,
    policy::{Action, Verdict},
    socket::Socket,
    syn::Syn,
    wire::{self, NotSyn},
};

use crate::{
    case::{Case, Findings},
    frame::{Packet, PacketFrame},
    guard::{Decision, Port},
    rewrite::Writable,
    stage::Stage,
};

/// Sees every frame that the interface receives.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp(ctx: XdpContext) -> u32 {
    observe(&ctx);
    xdp_action::XDP_PASS
}

/// Goes on where [`tfo_xdp`] has judged a SYN and there is a policy.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_policy(ctx: XdpContext) -> u32 {
    match enforce(&ctx) {
        Fate::GoesOn => xdp_action::XDP_PASS,
        Fate::Ends => xdp_action::XDP_DROP,
    }
}

/// Goes on where [`tfo_xdp`] has read a SYN and there is a guard.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_guard(ctx: XdpContext) -> u32 {
    defend(&ctx)
}

/// Goes on where [`tfo_xdp_guard`] has a SYN challenged.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[xdp(frags)]
fn tfo_xdp_challenge(ctx: XdpContext) -> u32 {
    answer(&ctx)
}

/// Sees every packet that the interface receives, after XDP, where there is a guard.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_guard(ctx: TcContext) -> i32 {
    match proof::demand(&ctx) {
        Fate::GoesOn => TCX_NEXT,
        Fate::Ends => TCX_DROP,
    }
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

/// Goes on where [`tfo_tc`] has judged a SYN and there is a policy.
#[expect(
    clippy::needless_pass_by_value,
    reason = "the signature that the macro calls"
)]
#[classifier]
fn tfo_tc_policy(ctx: TcContext) -> i32 {
    match enforce(&ctx) {
        Fate::GoesOn => TCX_NEXT,
        Fate::Ends => TCX_DROP,
    }
}

/// What becomes of a frame.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    GoesOn,
    Ends,
}

/// Judges the frame, if it is a SYN, and counts what it comes to. Nothing here can fail in a way that costs a
/// frame.
#[inline(always)]
fn observe(ctx: &(impl EbpfContext + Packet + Stage)) {
    ctx.pull();
    let parsed = wire::parse_behind(&PacketFrame::new(ctx), ctx.link());
    if let Ok(syn) = &parsed
        && guards(ctx, syn)
        && Case::put_down(policy::head(), syn)
    {
        ctx.guard();
    }
    match parsed {
        Ok(syn) if Outcome::depends_on_socket(&syn) => judge(ctx, &syn),
        Ok(syn) => {
            let judgement = Judgement::of(&syn, &Socket::Unknown, || None);
            counters::count_syn(&syn, judgement, Verdict::NONE);
            // An ordinary SYN pays for nothing else.
            if syn.options.malformed {
                tell(ctx, &syn, judgement, Verdict::NONE, Reaction::None);
            }
        }
        Err(NotSyn::Unparsed) => counters::count_unparsed(),
        Err(NotSyn::Other) => {}
    }
}

/// Whether a guard looks at a SYN before anyone else does.
#[inline(always)]
fn guards<C: Stage>(_: &C, syn: &Syn) -> bool {
    C::GUARDS && guard::is_armed() && Port::of(syn.destination_port()).is_some_and(Port::is_watched)
}

/// Challenges the SYN that was put down, if the guard says so.
#[inline(always)]
fn defend(ctx: &XdpContext) -> u32 {
    let (Some(Case { policy, syn }), Some(findings)) = (Case::take_up(), Findings::here()) else {
        return xdp_action::XDP_PASS;
    };
    let socket = site::investigate(ctx, syn, findings);
    let opaque = |word| frame::forget(word, syn.sequence.into());
    findings.put_judgement(Judgement::in_full(syn, &socket, keys::in_force, opaque));
    let judgement = findings.judgement();
    let (Some(port), Some(head)) = (Port::of(syn.destination_port()), guard::head()) else {
        return go_on(ctx, *policy, syn, judgement, Reaction::None);
    };
    let now = clock::now();
    let Decision { reaction, switched } =
        Decision::of(port, head, syn, judgement, findings.site(), now);
    if switched {
        counters::count_at(syn.destination_port(), Counter::GuardSwitchedOn);
    }
    match reaction {
        Reaction::None => return go_on(ctx, *policy, syn, judgement, reaction),
        Reaction::Proven | Reaction::Unfit => {
            counters::count_reaction(syn, reaction);
            return go_on(ctx, *policy, syn, judgement, reaction);
        }
        Reaction::Challenged => {
            // That is another program's part, as in `judge`.
            ctx.challenge();
            return go_on(ctx, *policy, syn, judgement, Reaction::None);
        }
        Reaction::Capped | Reaction::Martian => {}
    }
    counters::count_blocked(syn, judgement, reaction, false);
    tell_blocked(syn, judgement, reaction, false);
    xdp_action::XDP_DROP
}

/// Answers the SYN that was put down.
#[inline(always)]
fn answer(ctx: &XdpContext) -> u32 {
    let (Some(Case { syn, .. }), Some(findings), Some(head)) =
        (Case::take_up(), Findings::here(), guard::head())
    else {
        return xdp_action::XDP_PASS;
    };
    let key = findings.issuer();
    let answered = reply::challenge(ctx, head, syn, findings.site(), key.as_ref(), clock::now());
    let (judgement, issued) = (findings.judgement(), answered && key.is_some());
    counters::count_blocked(syn, judgement, Reaction::Challenged, issued);
    tell_blocked(syn, judgement, Reaction::Challenged, issued);
    if answered {
        xdp_action::XDP_TX
    } else {
        xdp_action::XDP_DROP
    }
}

/// Goes on with a SYN that the guard lets pass.
#[inline(always)]
fn go_on(
    ctx: &XdpContext,
    policy: u64,
    syn: &Syn,
    judgement: Judgement,
    reaction: Reaction,
) -> u32 {
    if policy != 0 && Outcome::depends_on_socket(syn) {
        ctx.enforce();
    }
    counters::count_syn(syn, judgement, Verdict::NONE);
    if Outcome::depends_on_socket(syn) || syn.options.malformed {
        tell(ctx, syn, judgement, Verdict::NONE, reaction);
    }
    xdp_action::XDP_PASS
}

/// Judges a SYN that has to do with Fast Open.
#[inline(always)]
fn judge(ctx: &(impl EbpfContext + Stage), syn: &Syn) {
    let policy = policy::head();
    if policy != 0 && Case::put_down(policy, syn) {
        // That is another program's part, and ends the run: in one, they would be too much for the verifier.
        ctx.enforce();
        // It is not there. Nothing is done.
    }
    let socket = socket::look_up(ctx, syn);
    let judgement = Judgement::of(syn, &socket, keys::in_force)
        .through(|word| frame::forget(word, syn.sequence.into()));
    counters::count_syn(syn, judgement, Verdict::NONE);
    tell(ctx, syn, judgement, Verdict::NONE, Reaction::None);
}

/// Judges the SYN that was put down, and does what the policy says of it.
#[inline(always)]
fn enforce(ctx: &(impl EbpfContext + Writable)) -> Fate {
    let Some(Case { policy, syn }) = Case::take_up() else {
        return Fate::GoesOn;
    };
    let socket = socket::look_up(ctx, syn);
    // The verifier is not to go on once for each judgement.
    let opaque = |word| frame::forget(word, syn.sequence.into());
    let judgement = Judgement::in_full(syn, &socket, keys::in_force, opaque);
    let mut verdict = policy::verdict(*policy, syn, judgement);
    if let Some(rewrite) = verdict.action().rewrite()
        && !rewrite::apply(ctx, syn, rewrite)
    {
        // It goes on as it came, and is counted so.
        verdict = Verdict::NONE;
    }
    counters::count_syn(syn, judgement, verdict);
    tell(ctx, syn, judgement, verdict, Reaction::None);
    match verdict.action() {
        Action::Drop => Fate::Ends,
        _ => Fate::GoesOn,
    }
}

/// Counts a SYN that has to do with Fast Open for its source, and tells of it to whoever listens.
#[cfg_attr(
    not(feature = "trace"),
    expect(unused_variables, reason = "the log's context")
)]
#[inline(always)]
fn tell(
    ctx: &impl EbpfContext,
    syn: &Syn,
    judgement: Judgement,
    verdict: Verdict,
    reaction: Reaction,
) {
    let outcome = judgement.outcome(syn);
    sources::count(syn, outcome);
    events::report(syn, outcome, verdict, |event| {
        event.guarded(reaction, false)
    });
    #[cfg(feature = "trace")]
    trace(ctx, syn, outcome);
}

/// Tells of a SYN that goes no further, ordinary or not. Its source is not counted: it may be anyone's.
#[inline(always)]
fn tell_blocked(syn: &Syn, judgement: Judgement, reaction: Reaction, issued: bool) {
    events::report(syn, judgement.outcome(syn), Verdict::NONE, |event| {
        event.guarded(reaction, issued)
    });
}

/// One log line for a SYN that has to do with Fast Open.
#[cfg(feature = "trace")]
#[inline(always)]
fn trace(ctx: &impl EbpfContext, syn: &Syn, outcome: Outcome) {
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
