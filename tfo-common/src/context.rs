//! One SYN on its way through the pipeline, with all that was decided about it.

use crate::{
    classify::{Classification, Outcome},
    fastopen::own::OwnCookie,
    guard::{Decision, GuardAction},
    policy::Verdict,
    switches::Switches,
    wire::syn::Syn,
};

/// A parsed SYN and the results of the steps so far. Each step fills in its own field.
///
/// It waits in a pinned map between two programs: whoever changes it raises [`crate::abi::LAYOUT_VERSION`].
#[derive(Clone, Copy, Debug)]
pub struct SynContext {
    /// The switches at the time when it came.
    pub switches: Switches,
    /// The SYN as it came, but for an own cookie, which is the kernel's from its translation on.
    pub syn: Syn,
    /// The kind of own cookie with which it came, if any.
    pub own_cookie: OwnCookie,
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
    pub const fn new(syn: Syn, switches: Switches) -> Self {
        Self {
            switches,
            syn,
            own_cookie: OwnCookie::None,
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

    /// `true` if the SYN's port may take one of the counter slots that are reserved for Fast Open. A flood may not.
    #[inline(always)]
    pub fn uses_reserved_slot(&self) -> bool {
        !matches!(self.outcome(), Outcome::NoOption | Outcome::NoListener)
            || matches!(
                self.guard.action(),
                GuardAction::Proven | GuardAction::Unfit
            )
    }
}
