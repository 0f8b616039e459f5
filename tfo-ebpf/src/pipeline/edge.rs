//! Step: the guard's decision about a SYN for a host behind this one.

use aya_ebpf::EbpfContext;
use tfo_common::{
    classify::{Classification, Outcome, socket::Socket},
    context::SynContext,
    fastopen::own::OwnCookie,
    guard::{GuardAction, GuardMode, edge::passed_tag},
    switches::Switches,
    wire::{addresses::Address, options::fast_open::FastOpen},
};

use super::{guard, host, route, step::Step};
use crate::{
    kernel::{barrier::barrier_var, clock},
    maps::{
        guard::{Edge, GuardScratch, has_passed, note_passed, secret},
        keys, own_cookies,
        routes::is_local,
    },
    packet::answer::Answer,
};

/// `true` if the SYN's destination is behind this host and has a guard here.
#[inline(always)]
pub(super) fn applies(context: &SynContext) -> bool {
    context.switches.has(Switches::GUARD_EDGE)
        && Edge::of(&context.syn).is_some_and(|edge| !matches!(edge.port().mode(), GuardMode::Off))
        && !is_local(Address::destination(&context.syn.addresses))
}

/// Checks the cookie and decides. `Transmit`: it is to be answered, by the program for challenges.
#[inline(always)]
pub(super) fn edge(
    ctx: &(impl EbpfContext + Answer),
    context: &mut SynContext,
    scratch: GuardScratch,
) -> Step {
    let (Some(edge), Some(secret)) = (Edge::of(&context.syn), secret(0)) else {
        return Step::Continue;
    };
    // Who is not sent on is not answered for.
    if !host::forwards(ctx, &context.syn) {
        return Step::Continue;
    }
    let Some(mtu) = route::onward(ctx, &context.syn) else {
        return Step::Continue;
    };
    let syn = &context.syn;
    let tag = passed_tag(&secret, &syn.addresses, syn.ports, syn.sequence);
    let tag = barrier_var(tag, syn.sequence.into());
    // Sent again, since no SYN-ACK came. The host behind has a connection for it, which takes no answer to a challenge.
    if has_passed(tag) {
        return Step::Continue;
    }
    classify(context);
    let key = keys::in_force().and_then(|keys| keys.first());
    scratch.set_edge(tag, &edge.terms(), mtu, key);
    let step = guard::decide(context, scratch, edge.port());
    if step == Step::Transmit {
        context.guard = context.guard.with_action(GuardAction::Referred);
    } else {
        note_passed(tag);
    }
    step
}

/// Classifies by the cookie alone: an own one, or one under the keys of this host.
#[inline(always)]
fn classify(context: &mut SynContext) {
    let syn = &context.syn;
    let hide = |word| barrier_var(word, syn.sequence.into());
    let own = match (syn.options.fast_open(), own_cookies::in_force()) {
        (FastOpen::Cookie(own), Some(rules)) => rules.age(own, &syn.addresses, clock::now()) as u64,
        (_, Some(_)) => OwnCookie::Foreign as u64,
        _ => OwnCookie::None as u64,
    };
    // The verifier then goes on once, not once for each age.
    let own = OwnCookie::from_number(hide(own) as u32);
    let socket = Socket::Unknown;
    context.classification = if own.is_good() {
        Classification::with_known_cookie(syn, &socket, Outcome::Primary, hide)
    } else {
        Classification::in_full(syn, &socket, keys::in_force, hide)
    };
    context.own_cookie = own;
}
