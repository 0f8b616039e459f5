//! What is done to a SYN: (judgement, rule) -> verdict.
//!
//! Only SYNs with a Fast Open option or data come here, and only where a policy is set. A policy never
//! makes the kernel take data that it would not take, and never costs a client more than the time that
//! Fast Open saves, or one retransmission where it drops: a client's next SYN has no option and no data.

mod limit;
mod rule;

pub use limit::{Limit, LimitKey, Rate, Scope};
pub use rule::{Class, Listed, PolicyHead, PortRule, Rule};

use crate::{
    classify,
    counters::{Counter, Counters},
    judgement::Judgement,
    syn::Syn,
    wire::{options::FastOpen, rewrite::Rewrite},
};

/// What is done to a SYN.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u8)]
pub enum Action {
    /// It goes on as it came.
    #[default]
    Pass,
    /// Its cookie becomes a request: the kernel takes no data, and hands out a cookie of its present key.
    Reissue,
    /// Its option is taken out: an ordinary handshake.
    Fallback,
    /// It goes no further.
    Drop,
}

impl Action {
    /// Every action, in the order of its discriminant.
    pub const ALL: [Self; 4] = [Self::Pass, Self::Reissue, Self::Fallback, Self::Drop];

    /// The action's name, as operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Reissue => "reissue",
            Self::Fallback => "fallback",
            Self::Drop => "drop",
        }
    }

    /// The action that a map holds as this number.
    #[inline(always)]
    pub const fn from_number(number: u8) -> Self {
        match number {
            1 => Self::Reissue,
            2 => Self::Fallback,
            3 => Self::Drop,
            _ => Self::Pass,
        }
    }

    /// How it changes the SYN's option, if it does.
    #[inline(always)]
    pub const fn rewrite(self) -> Option<Rewrite> {
        match self {
            Self::Reissue => Some(Rewrite::Request),
            Self::Fallback => Some(Rewrite::Absent),
            Self::Pass | Self::Drop => None,
        }
    }
}

/// Why it is done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// [`Rule::actions`].
    Rule,
    /// The deny list.
    Denied,
    /// A limit of such SYNs: of one source, or of all.
    Limit(Class, Scope),
}

impl Cause {
    /// Its index among [`Counter::POLICY`].
    #[inline(always)]
    const fn index(self) -> u32 {
        const ACTIONS: u32 = Counter::POLICY_ACTIONS as u32;
        match self {
            Self::Rule => ACTIONS,
            Self::Denied => ACTIONS + 1,
            Self::Limit(class, scope) => ACTIONS + 2 + 2 * class as u32 + scope as u32,
        }
    }

    /// What counts SYNs for which this was the cause.
    pub const fn counter(self) -> Counter {
        Counter::POLICY[self.index() as usize]
    }
}

/// What a policy says of one SYN: an [`Action`] and its [`Cause`], packed into one word. Enums with fields
/// would leave registers unset on some of their ways, which the kernel's verifier refuses.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Verdict(u32);

/// What a verdict depends on besides the SYN and the rule.
pub trait Circumstances {
    /// Whether the source is on a list.
    fn listed(&self) -> Listed;

    /// Takes one of what a limit allows; `false` where nothing is left.
    fn take(&self, class: Class, scope: Scope, rate: Rate) -> bool;

    /// `value` itself: see [`crate::wire::Frame::opaque`].
    fn opaque(&self, value: u64) -> u64 {
        value
    }

    /// A class's place in a rule. In the kernel, the verifier does not follow how a class came about: it is to
    /// see the bound where the index is.
    #[inline(always)]
    fn index(&self, class: Class) -> usize {
        self.opaque(class as u64) as usize % Class::ALL.len()
    }
}

impl Verdict {
    /// Nothing.
    pub const NONE: Self = Self(0);
    /// The SYN's source is on the allow list.
    pub const ALLOWED: Self = Self(1 << 16);
    /// Something would be done, but would not keep the data out: the listener takes it without any cookie.
    pub const UNFIT: Self = Self(1 << 17);
    /// The bit that says that nothing is done.
    const DRY_RUN: u32 = 1 << 18;
    /// The bits of the action's number.
    const ACTION: u32 = 0x3;
    /// Where the cause's index among [`Counter::POLICY`] is, and its bits.
    const CAUSE: u32 = 8;
    const CAUSES: u32 = 0xf;

    #[inline(always)]
    const fn act(action: Action, cause: u32, dry_run: bool) -> Self {
        let dry_run = if dry_run { Self::DRY_RUN } else { 0 };
        Self(action as u32 | cause << Self::CAUSE | dry_run)
    }

    /// What `rule` says of `syn`.
    #[inline(always)]
    pub fn of(
        syn: &Syn,
        judgement: Judgement,
        rule: &Rule,
        circumstances: &impl Circumstances,
    ) -> Self {
        let Some(class) = Class::of(syn, judgement.merit()) else {
            return Self::NONE;
        };
        if judgement.is_beyond_policy() {
            return Self::NONE;
        }
        let (action, cause) = match circumstances.listed() {
            Listed::Allowed => return Self::ALLOWED,
            Listed::Denied => (Action::from_number(rule.denied), Cause::Denied.index()),
            Listed::No => match over_limit(syn, judgement, class, rule, circumstances) {
                0 => {
                    let action = rule.actions[circumstances.index(class)];
                    (Action::from_number(action), Cause::Rule.index())
                }
                cause => (class.over_limit(), cause),
            },
        };
        fit(action, cause, syn, judgement, rule)
    }

    /// The same, where every part has been through `opaque` (see [`crate::wire::Frame::opaque`]).
    #[inline(always)]
    #[must_use]
    pub fn through(self, opaque: impl FnOnce(u64) -> u64) -> Self {
        Self(opaque(self.0.into()) as u32)
    }

    /// What is done, or would be in earnest.
    #[inline(always)]
    pub const fn planned(self) -> Action {
        Action::from_number((self.0 & Self::ACTION) as u8)
    }

    /// What is really done.
    #[inline(always)]
    pub const fn action(self) -> Action {
        if self.is_dry_run() {
            Action::Pass
        } else {
            self.planned()
        }
    }

    /// Nothing is done, but counted.
    #[inline(always)]
    pub const fn is_dry_run(self) -> bool {
        self.0 & Self::DRY_RUN != 0
    }

    /// The cause's index among [`Counter::POLICY`].
    #[inline(always)]
    pub(crate) const fn cause(self) -> usize {
        (self.0 >> Self::CAUSE & Self::CAUSES) as usize
    }

    /// Counts `syn`, of which this was said.
    #[inline(always)]
    pub fn count(self, syn: &Syn, judgement: Judgement, counters: &mut Counters) {
        let outcome = judgement.outcome(syn);
        let planned = self.planned();
        if matches!(planned, Action::Pass) {
            if self.0 & Self::ALLOWED.0 != 0 {
                counters.add(Counter::PolicyAllowed, 1);
            }
            if self.0 & Self::UNFIT.0 != 0 {
                counters.add(Counter::PolicyUnfit, 1);
            }
            return outcome.count(syn, counters);
        }
        let first = if self.is_dry_run() {
            Counter::DRY_RUN[0] as usize
        } else {
            Counter::POLICY[0] as usize
        };
        // Masked as they are, the verifier sees that neither is beyond the counters.
        counters.count(first - 1 + (self.0 & Self::ACTION) as usize);
        counters.count(first + self.cause());
        if self.is_dry_run() {
            return outcome.count(syn, counters);
        }
        classify::count_seen(syn, counters);
        let reason = match outcome.reason() {
            Some(reason) => reason,
            None => Counter::ReasonPolicy,
        };
        classify::count_reason(reason, syn, counters);
        if let Some(rewrite) = planned.rewrite() {
            let mut syn = *syn;
            let judgement = judgement.rewritten(&mut syn, rewrite);
            judgement.outcome(&syn).count_mirrored(&syn, counters);
        }
    }
}

/// The first limit that `syn` is over, as its cause's index; 0 for none.
#[inline(always)]
fn over_limit(
    syn: &Syn,
    judgement: Judgement,
    class: Class,
    rule: &Rule,
    circumstances: &impl Circumstances,
) -> u32 {
    let cause = over(class, rule, circumstances);
    let taken = syn.data_len > 0
        && (judgement.needs_no_cookie() || matches!(class, Class::Valid))
        && !matches!(class, Class::Data);
    if cause == 0 && taken {
        over(Class::Data, rule, circumstances)
    } else {
        cause
    }
}

/// Which of the limits of a class is used up, as in [`over_limit`].
#[inline(always)]
fn over(class: Class, rule: &Rule, circumstances: &impl Circumstances) -> u32 {
    let Limit { source, port } = rule.limits[circumstances.index(class)];
    if !circumstances.take(class, Scope::Source, source) {
        Cause::Limit(class, Scope::Source).index()
    } else if !circumstances.take(class, Scope::Port, port) {
        Cause::Limit(class, Scope::Port).index()
    } else {
        0
    }
}

/// The verdict on `syn` that comes nearest to `action` where that is not possible.
#[inline(always)]
fn fit(action: Action, cause: u32, syn: &Syn, judgement: Judgement, rule: &Rule) -> Verdict {
    let dry_run = rule.dry_run != 0;
    let drop = Verdict::act(Action::Drop, cause, dry_run);
    if matches!(action, Action::Pass) {
        return Verdict::NONE;
    }
    if matches!(action, Action::Drop) {
        return drop;
    }
    if judgement.needs_no_cookie() && syn.data_len > 0 {
        return match Action::from_number(rule.no_cookie) {
            Action::Drop => drop,
            _ => Verdict::UNFIT,
        };
    }
    let as_it_is = match syn.options.fast_open {
        FastOpen::Absent => true,
        FastOpen::Request => matches!(action, Action::Reissue),
        _ => false,
    };
    if as_it_is {
        return Verdict::NONE;
    }
    // No client sends two. Without the last, the kernel would go by the first.
    if !syn.layout.option.sole {
        return drop;
    }
    Verdict::act(action, cause, dry_run)
}
