//! Step: the policy's verdict on a SYN, and the rewrite of its option.

use tfo_common::{
    context::SynContext,
    policy::{Action, Class},
};

use super::step::Step;
use crate::{
    maps::policy,
    packet::write::{WritePacket, rewrite},
};

/// `true` if the policy in force may act on the SYN, which was classified in full where there is one.
#[inline(always)]
pub(super) fn applies(context: &SynContext) -> bool {
    let cookie = context.classification.cookie_outcome();
    Class::of(&context.syn, cookie).is_some_and(|class| context.switches.acts_on(class))
}

/// Applies the policy in force.
#[inline(always)]
pub(super) fn policy(ctx: &impl WritePacket, context: &mut SynContext) -> Step {
    let mut verdict = policy::verdict(ctx, context);
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
