//! One SYN on its way through the pipeline, with all that was decided about it.

use crate::{
    classify::{Classification, Outcome},
    guard::{Decision, GuardAction},
    policy::Verdict,
    wire::syn::Syn,
};

/// A parsed SYN and the results of the steps so far. Each step fills in its own field, once.
#[derive(Clone, Copy, Debug)]
pub struct SynContext {
    /// The SYN as it came.
    pub syn: Syn,
    /// Set by the first step that needs it; [`Classification::NONE`] before.
    pub classification: Classification,
    /// The guard's decision; [`Decision::NONE`] where there is no guard.
    pub guard: Decision,
    /// The policy's verdict; [`Verdict::NONE`] where there is no policy.
    pub verdict: Verdict,
}

impl SynContext {
    /// A SYN about which nothing was decided yet.
    #[inline(always)]
    pub const fn new(syn: Syn) -> Self {
        Self {
            syn,
            classification: Classification::NONE,
            guard: Decision::NONE,
            verdict: Verdict::NONE,
        }
    }

    /// The outcome of the SYN as it came, had neither a guard nor a policy acted on it.
    #[inline(always)]
    pub const fn outcome(&self) -> Outcome {
        self.classification.outcome(&self.syn)
    }

    /// `true` if the SYN takes a counter slot from those that are kept for Fast Open.
    #[inline(always)]
    pub fn is_noteworthy(&self) -> bool {
        self.outcome() != Outcome::NoOption || self.guard.action() != GuardAction::None
    }
}
