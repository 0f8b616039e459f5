//! Step: the policy's verdict on a SYN, and the rewrite of its option.

use tfo_common::{context::SynContext, policy::Action};

use super::step::Step;
use crate::{
    maps::policy,
    packet::write::{WritePacket, rewrite},
};

/// `true` if a policy is in force that may act on the SYN.
#[inline(always)]
pub(super) fn applies(context: &SynContext) -> bool {
    context.syn.concerns_fast_open() && policy::head().slot != 0
}

/// Applies the policy in force.
#[inline(always)]
pub(super) fn policy(ctx: &impl WritePacket, context: &mut SynContext) -> Step {
    let mut verdict = policy::verdict(ctx, policy::head(), &context.syn, context.classification);
    if let Some(change) = verdict.action().rewrite()
        && !rewrite(ctx, &context.syn, change)
    {
        verdict = verdict.without_rewrite();
    }
    context.verdict = verdict;
    match verdict.action() {
        Action::Drop => Step::Drop,
        Action::Pass | Action::Reissue | Action::Fallback | Action::Once => Step::Pass,
    }
}
