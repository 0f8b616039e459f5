//! The last step: the only one that counts and reports.

use aya_ebpf::EbpfContext;
use tfo_common::{
    context::SynContext, counters::Counter, guard::GuardAction, policy::withhold::Sent,
    switches::Switches,
};

use super::step::Step;
use crate::{
    maps::{counters, events, sources, withhold},
    packet::claim::Claim,
};

/// Counts and reports the SYN of `context`, which ends with `step`.
#[inline(always)]
pub(super) fn finish(ctx: &(impl EbpfContext + Claim), context: &SynContext, step: Step) -> Step {
    counters::count(context);
    let blocked = context.guard.action().blocks();
    // An ordinary SYN that goes on costs nothing more.
    if blocked || context.syn.concerns_fast_open() || context.syn.options.is_malformed() {
        if !blocked {
            // Nobody proved the source of a blocked SYN.
            sources::count(&context.syn, context.outcome());
        }
        events::report(context);
        #[cfg(feature = "trace")]
        trace(ctx, context);
    } else if context.switches.has(Switches::WITHHOLDS) {
        withhold::note(&context.syn, Sent::Plain);
    }
    claim(ctx, context.switches);
    step
}

/// While the data path moves to another hook, has the program there leave this packet alone. Last, since what is known of the
/// packet ends with it.
#[inline(always)]
fn claim(ctx: &impl Claim, switches: Switches) {
    if switches.has(Switches::MOVING) {
        ctx.claim();
    }
}

/// Counts a frame that may be a SYN and was not read.
#[inline(always)]
pub(super) fn unparsed(ctx: &impl Claim, switches: Switches) -> Step {
    counters::count_anywhere(Counter::Unparsed);
    claim(ctx, switches);
    Step::Pass
}

/// Counts a SYN that is for no socket of this host.
#[inline(always)]
pub(super) fn elsewhere(ctx: &impl Claim, switches: Switches) -> Step {
    counters::count_anywhere(Counter::Elsewhere);
    claim(ctx, switches);
    Step::Pass
}

/// Counts and reports a SYN for a host behind this one, which ends with `step`.
#[inline(always)]
pub(super) fn at_edge(ctx: &(impl EbpfContext + Claim), context: &SynContext, step: Step) -> Step {
    counters::count_at_edge(context);
    if !matches!(context.guard.action(), GuardAction::None) {
        events::report(context);
    }
    claim(ctx, context.switches);
    step
}

/// Counts a packet at a port that is no SYN, and ends with `step`.
#[inline(always)]
pub(super) fn count(port: u16, counter: Counter, step: Step) -> Step {
    counters::count_at(port, counter);
    step
}

/// Logs a SYN that asked for Fast Open.
#[cfg(feature = "trace")]
#[inline(always)]
fn trace(ctx: &impl EbpfContext, context: &SynContext) {
    if context.syn.asks_for_fast_open() {
        aya_log_ebpf::info!(
            ctx,
            "SYN to port {} with {} bytes of data: {}",
            context.syn.destination_port(),
            context.syn.data_len,
            context.outcome().name()
        );
    }
}
