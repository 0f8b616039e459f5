//! Step: the guard's decision about a SYN.

use aya_ebpf::EbpfContext;
use tfo_common::{
    context::SynContext,
    guard::{GuardAction, GuardMode, decision::DecisionInput},
    switches::Switches,
};

use super::{classify::classify, step::Step};
use crate::{
    kernel::{barrier::barrier_var, clock},
    maps::guard::{self, GuardScratch, Port},
};

/// `true` if the SYN's port has a guard.
#[inline(always)]
pub(super) fn applies(context: &SynContext) -> bool {
    context.switches.has(Switches::GUARD_HOST)
        && Port::of(context.switches, context.syn.destination_port())
            .is_some_and(|port| !matches!(port.mode(), GuardMode::Off))
}

/// Classifies the SYN and decides. `Transmit`: it is to be answered, by the program for challenges.
#[inline(always)]
pub(super) fn guard(
    ctx: &impl EbpfContext,
    context: &mut SynContext,
    scratch: GuardScratch,
) -> Step {
    scratch.set_host();
    context.classification = classify(ctx, &context.syn, true, scratch);
    match Port::of(context.switches, context.syn.destination_port()) {
        Some(port) => decide(context, scratch, port),
        None => Step::Continue,
    }
}

/// Decides about the SYN at `port`, as it was classified. `Transmit`: it is to be answered.
#[inline(always)]
pub(super) fn decide(context: &mut SynContext, scratch: GuardScratch, port: Port) -> Step {
    let syn = &context.syn;
    let Some(head) = guard::head() else {
        return Step::Continue;
    };
    // Slot 0: a source keeps its buckets while time slots go by.
    let Some(secret) = guard::secret(0) else {
        return Step::Continue;
    };
    let now = clock::now();
    let decision = DecisionInput {
        rule: &port.rule(),
        state: port.state(),
        head: &head,
        listener: scratch.listener(),
        classification: context.classification,
        now,
    }
    .decide(|bucket, rate| guard::take(&secret, &syn.addresses, bucket, rate, now))
    // The verifier then goes on once, not once for each decision.
    .barrier_var(|word| barrier_var(word, syn.sequence.into()));
    context.guard = decision;
    match decision.action() {
        GuardAction::Challenged => Step::Transmit,
        _ => Step::Continue,
    }
}
