//! The verdict of a policy: (classification, rule) -> action and cause.
//!
//! A policy never makes the kernel take data that it would not take, and never costs a client more than the round trip
//! that Fast Open saves, or one retransmission where it drops: a client's next SYN has no option and no data.

use super::{
    action::Action,
    class::Class,
    limit::{Limit, Scope},
    once::OnceBy,
    rule::{ListEntry, Rule},
};
use crate::{
    classify::Classification,
    counters::Counter,
    rate::Rate,
    wire::{options::fast_open::FastOpen, syn::Syn},
};

/// Why a policy acts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// The rule's action for the class: [`Rule::actions`].
    Rule,
    /// The source is on the deny list.
    Denied,
    /// The limit of a class, of one source or of the port.
    Limit(Class, Scope),
    /// [`Action::Once`]: the data came before.
    Repeated,
    /// [`Action::Once`]: it seems that the kernel takes no data of the SYN. What comes with it may change that.
    Untaken,
    /// Cookies are withheld from the source: [`Rule::withhold`].
    Withheld,
}

impl Cause {
    /// Index in [`Counter::POLICY`].
    #[inline(always)]
    const fn index(self) -> u32 {
        const ACTIONS: u32 = Counter::POLICY_ACTIONS as u32;
        match self {
            Self::Rule => ACTIONS,
            Self::Denied => ACTIONS + 1,
            Self::Limit(class, scope) => ACTIONS + 2 + 2 * class as u32 + scope as u32,
            Self::Repeated => ACTIONS + 2 + 2 * Class::ALL.len() as u32,
            Self::Untaken => ACTIONS + 3 + 2 * Class::ALL.len() as u32,
            Self::Withheld => ACTIONS + 4 + 2 * Class::ALL.len() as u32,
        }
    }

    /// The counter of SYNs with this cause.
    pub const fn counter(self) -> Counter {
        Counter::POLICY[self.index() as usize]
    }
}

/// An [`Action`] and its [`Cause`], packed into one word: an enum with fields leaves registers unset on some paths,
/// which the verifier refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(u32);

/// The maps on which a verdict depends besides the SYN and the rule.
pub trait PolicyState {
    /// The source's entry in the policy's lists.
    fn list_entry(&self) -> ListEntry;

    /// Takes one token from a limit's bucket; `false` where it is empty.
    fn take(&self, class: Class, scope: Scope, rate: Rate) -> bool;

    /// Cookies are withheld from the source, under a rule with [`Rule::withhold`].
    fn withholds(&self, class: Class) -> bool;

    /// Remembers the SYN's data; `true` where it came before, or cannot be remembered.
    fn came_before(&self, by: OnceBy) -> bool;

    /// See [`crate::wire::Frame::barrier_var`].
    fn barrier_var(&self, value: u64) -> u64 {
        value
    }

    /// Index of a class in a rule's arrays. The verifier does not follow where a class came from, so the bound is
    /// computed where the index is used.
    #[inline(always)]
    fn index(&self, class: Class) -> usize {
        self.barrier_var(class as u64) as usize % Class::ALL.len()
    }
}

impl Verdict {
    /// No action.
    pub const NONE: Self = Self(0);
    /// No action: the source is on the allow list.
    pub const ALLOWED: Self = Self(1 << 16);
    /// No action: a rewrite would not keep the data out, since the listener takes it without a cookie.
    pub const UNFIT: Self = Self(1 << 17);
    /// No action: the data came for the first time.
    const FIRST: Self = Self(1 << 19);
    /// The action is counted, not taken.
    const DRY_RUN: u32 = 1 << 18;
    /// Mask of the action's number.
    const ACTION: u32 = 0x3;
    /// Shift and mask of the cause's index in [`Counter::POLICY`].
    const CAUSE: u32 = 8;
    const CAUSES: u32 = 0xf;

    #[inline(always)]
    const fn act(action: Action, cause: u32, dry_run: bool) -> Self {
        let dry_run = if dry_run { Self::DRY_RUN } else { 0 };
        Self(action as u32 | cause << Self::CAUSE | dry_run)
    }

    /// The verdict of `rule` on `syn`.
    #[inline(always)]
    pub fn of(
        syn: &Syn,
        classification: Classification,
        rule: &Rule,
        state: &impl PolicyState,
    ) -> Self {
        let Some(class) = Class::of(syn, classification.cookie_outcome()) else {
            return Self::NONE;
        };
        let once = matches!(class, Class::Valid)
            && syn.data_len > 0
            && rule.actions[Class::Valid as usize] == Action::Once as u8;
        let settled = classification.is_settled();
        if settled && !(once && classification.is_retransmission()) {
            return Self::NONE;
        }
        let (action, cause) = match state.list_entry() {
            ListEntry::Allow | ListEntry::Deny if settled => return Self::NONE,
            ListEntry::Allow => return Self::ALLOWED,
            ListEntry::Deny => (Action::from_number(rule.denied), Cause::Denied.index()),
            // The socket was looked up before the kernel saw what came in the same batch. A request costs nothing if it takes
            // no data of the SYN.
            ListEntry::None if once && !classification.takes_data() => {
                (Action::Reissue, Cause::Untaken.index())
            }
            ListEntry::None => match over_limit(syn, classification, class, rule, state) {
                0 => match Action::from_number(rule.actions[state.index(class)]) {
                    Action::Pass | Action::Once if rule.withhold != 0 && state.withholds(class) => {
                        (Action::Fallback, Cause::Withheld.index())
                    }
                    Action::Once if !once => return Self::NONE,
                    Action::Once if !state.came_before(OnceBy::from_number(rule.once_by)) => {
                        return Self::FIRST;
                    }
                    Action::Once => (Action::Reissue, Cause::Repeated.index()),
                    action => (action, Cause::Rule.index()),
                },
                cause => (Class::OVER_LIMIT, cause),
            },
        };
        fit(action, cause, syn, classification, rule)
    }

    /// The verdict where the rewrite of the action could not be made: the frame is as it came.
    #[inline(always)]
    #[must_use]
    pub const fn without_rewrite(self) -> Self {
        if self.cause() < Cause::Repeated.index() as usize {
            return Self::NONE;
        }
        // The data is not to be taken, whatever becomes of the SYN.
        Self(self.0 & !Self::ACTION | Action::Drop as u32)
    }

    /// The same, each bit passed through `barrier` (see [`crate::wire::Frame::barrier_var`]).
    #[inline(always)]
    #[must_use]
    pub fn barrier_var(self, barrier: impl FnOnce(u64) -> u64) -> Self {
        Self(barrier(self.0.into()) as u32)
    }

    /// The action, whether taken or only counted.
    #[inline(always)]
    pub const fn planned(self) -> Action {
        Action::from_number((self.0 & Self::ACTION) as u8)
    }

    /// The action that is taken: none in a dry run.
    #[inline(always)]
    pub const fn action(self) -> Action {
        if self.is_dry_run() {
            Action::Pass
        } else {
            self.planned()
        }
    }

    /// The action is counted, not taken.
    #[inline(always)]
    pub const fn is_dry_run(self) -> bool {
        self.0 & Self::DRY_RUN != 0
    }

    /// `true` for [`Self::ALLOWED`].
    #[inline(always)]
    pub(crate) const fn is_allowed(self) -> bool {
        self.0 & Self::ALLOWED.0 != 0
    }

    /// `true` for [`Self::UNFIT`].
    #[inline(always)]
    pub(crate) const fn is_unfit(self) -> bool {
        self.0 & Self::UNFIT.0 != 0
    }

    /// `true` for [`Self::FIRST`].
    #[inline(always)]
    pub(crate) const fn is_first(self) -> bool {
        self.0 & Self::FIRST.0 != 0
    }

    /// The number of [`Self::planned`]. Masked here, where the verifier sees that it bounds an index.
    #[inline(always)]
    pub(crate) const fn planned_number(self) -> usize {
        (self.0 & Self::ACTION) as usize
    }

    /// The cause's index in [`Counter::POLICY`].
    #[inline(always)]
    pub(crate) const fn cause(self) -> usize {
        (self.0 >> Self::CAUSE & Self::CAUSES) as usize
    }
}

/// The cause of the first limit that `syn` exceeds, as its index; 0 for none.
#[inline(always)]
fn over_limit(
    syn: &Syn,
    classification: Classification,
    class: Class,
    rule: &Rule,
    state: &impl PolicyState,
) -> u32 {
    let cause = match class {
        // Charged below, and only where it would be taken.
        Class::Data => 0,
        _ => exceeded(class, rule, state),
    };
    let taken = syn.data_len > 0
        && (classification.needs_no_cookie() || matches!(class, Class::Valid))
        && classification.takes_data();
    if cause == 0 && taken {
        exceeded(Class::Data, rule, state)
    } else {
        cause
    }
}

/// The cause of a class's first exceeded limit, as its index; 0 for none.
#[inline(always)]
fn exceeded(class: Class, rule: &Rule, state: &impl PolicyState) -> u32 {
    let Limit { source, port } = rule.limits[state.index(class)];
    if !state.take(class, Scope::Source, source) {
        Cause::Limit(class, Scope::Source).index()
    } else if !state.take(class, Scope::Port, port) {
        Cause::Limit(class, Scope::Port).index()
    } else {
        0
    }
}

/// The verdict with `action`, or with the nearest one where a rewrite is not possible.
#[inline(always)]
fn fit(
    action: Action,
    cause: u32,
    syn: &Syn,
    classification: Classification,
    rule: &Rule,
) -> Verdict {
    let dry_run = rule.dry_run != 0;
    let drop = Verdict::act(Action::Drop, cause, dry_run);
    // `Once` was decided before, and is for no other class.
    if matches!(action, Action::Pass | Action::Once) {
        return Verdict::NONE;
    }
    if matches!(action, Action::Drop) {
        return drop;
    }
    if classification.needs_no_cookie() && syn.data_len > 0 {
        return match Action::from_number(rule.no_cookie) {
            Action::Drop => drop,
            _ => Verdict::UNFIT,
        };
    }
    let as_it_is = match syn.options.fast_open() {
        FastOpen::Absent => true,
        FastOpen::Request => matches!(action, Action::Reissue),
        _ => false,
    };
    if as_it_is {
        return Verdict::NONE;
    }
    // No client sends two. Without the last, the first would count.
    if !syn.options.place().sole {
        return drop;
    }
    Verdict::act(action, cause, dry_run)
}
