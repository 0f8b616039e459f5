//! The one place where a SYN becomes counters.
//!
//! Under the kernel's names counts what the kernel will count of the SYN as it goes on: rewritten, dropped or unchanged.

use crate::{
    classify::Outcome,
    context::SynContext,
    counters::{Counter, Counters},
    policy::Action,
    wire::{options::fast_open::FastOpen, syn::Syn},
};

impl SynContext {
    /// Counts the SYN and all that was decided about it.
    #[inline(always)]
    pub fn count(&self, counters: &mut Counters) {
        count_seen(&self.syn, counters);
        if let Some(counter) = self.own_cookie.counter() {
            counters.add(counter, 1);
        }
        self.count_guard(counters);
        if self.guard.action().blocks() {
            // The kernel sees nothing of it, and counts nothing.
            let request = matches!(self.syn.options.fast_open(), FastOpen::Request);
            match self.outcome().reason() {
                Some(reason) => count_reason(reason, &self.syn, counters),
                // It asked for a cookie, and gets one.
                None if self.guard.cookie_issued() && request => {}
                None => count_reason(Counter::ReasonGuard, &self.syn, counters),
            }
        } else {
            self.count_policy(counters);
        }
    }

    /// Counts a SYN for a host behind this one. The kernel here counts nothing of it.
    #[inline(always)]
    pub fn count_at_edge(&self, counters: &mut Counters) {
        self.count_guard(counters);
        if !self.guard.action().blocks() {
            counters.add(Counter::Elsewhere, 1);
        }
    }

    #[inline(always)]
    fn count_guard(&self, counters: &mut Counters) {
        if let Some(counter) = self.guard.action().counter() {
            counters.add(counter, 1);
        }
        if self.guard.cookie_issued() {
            counters.add(Counter::GuardCookies, 1);
        }
        if self.guard.switched_on() {
            counters.add(Counter::GuardSwitchedOn, 1);
        }
    }

    /// Counts the verdict, and the SYN as it goes on after it.
    #[inline(always)]
    fn count_policy(&self, counters: &mut Counters) {
        let (syn, verdict, outcome) = (&self.syn, self.verdict, self.outcome());
        let planned = verdict.planned();
        if matches!(planned, Action::Pass) {
            if verdict.is_allowed() {
                counters.add(Counter::PolicyAllowed, 1);
            }
            if verdict.is_unfit() {
                counters.add(Counter::PolicyUnfit, 1);
            }
            if verdict.is_first() {
                counters.add(Counter::PolicyFirst, 1);
            }
            return count_outcome(outcome, syn, counters);
        }
        let first = if verdict.is_dry_run() {
            Counter::DRY_RUN[0] as usize
        } else {
            Counter::POLICY[0] as usize
        };
        counters.count(first - 1 + verdict.planned_number());
        counters.count(first + verdict.cause());
        if verdict.is_dry_run() {
            return count_outcome(outcome, syn, counters);
        }
        let reason = match outcome.reason() {
            Some(reason) => reason,
            None => Counter::ReasonPolicy,
        };
        count_reason(reason, syn, counters);
        if let Some(rewrite) = planned.rewrite() {
            let mut syn = *syn;
            let classification = self.classification.rewritten(&mut syn, rewrite);
            count_kernel(classification.outcome(&syn), &syn, counters);
        }
    }
}

/// Counts a SYN's size and options, whatever becomes of it.
#[inline(always)]
fn count_seen(syn: &Syn, counters: &mut Counters) {
    counters.add(Counter::Syns, 1);
    if syn.data_len > 0 {
        counters.add(Counter::SynsWithData, 1);
        counters.add(Counter::SynDataBytes, u64::from(syn.data_len));
    }
    if syn.options.is_malformed() {
        counters.add(Counter::OptionsMalformed, 1);
    }
    if syn.options.is_experimental() {
        counters.add(Counter::OptionsExperimental, 1);
    }
}

/// Counts the outcome of a SYN that the kernel sees as it came.
#[inline(always)]
fn count_outcome(outcome: Outcome, syn: &Syn, counters: &mut Counters) {
    if let Some(reason) = outcome.reason() {
        count_reason(reason, syn, counters);
    }
    count_kernel(outcome, syn, counters);
}

/// Counts the reason for which a SYN does not get Fast Open, if it asked for it.
#[inline(always)]
const fn count_reason(reason: Counter, syn: &Syn, counters: &mut Counters) {
    if syn.asks_for_fast_open() {
        counters.add(reason, 1);
    }
}

/// Counts what the kernel counts of a SYN with this outcome.
#[inline(always)]
const fn count_kernel(outcome: Outcome, syn: &Syn, counters: &mut Counters) {
    match outcome {
        Outcome::Primary | Outcome::WithoutCookie => counters.add(Counter::Passive, 1),
        Outcome::Backup => {
            counters.add(Counter::Passive, 1);
            counters.add(Counter::PassiveAltKey, 1);
        }
        Outcome::BadCookie | Outcome::BadLength => counters.add(Counter::PassiveFail, 1),
        Outcome::QueueFull => counters.add(Counter::ListenOverflow, 1),
        _ => {}
    }
    // The kernel counts a request before it decides whether to answer it.
    if matches!(syn.options.fast_open(), FastOpen::Request)
        && matches!(
            outcome,
            Outcome::Request
                | Outcome::WithoutCookie
                | Outcome::Off
                | Outcome::ListenerWithout
                | Outcome::QueueFull
        )
    {
        counters.add(Counter::CookieReqd, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        classify::{Classification, socket::Socket},
        fastopen::{Cookie, Key, KeySet},
        guard::{Decision, GuardAction},
        switches::Switches,
        wire::{addresses::Addresses, syn::Layout},
    };

    const KEY: Key = Key::from_groups([1, 2, 3, 4]);

    fn context(fast_open: FastOpen, guard: Decision) -> SynContext {
        let addresses = Addresses::v4([192, 0, 2, 1], [198, 51, 100, 1]);
        let fast_open = match fast_open {
            FastOpen::Cookie(_) => FastOpen::Cookie(KEY.cookie(&addresses)),
            other => other,
        };
        let syn = Syn {
            addresses,
            ports: 0,
            sequence: 1,
            data_len: 9,
            options: fast_open.into(),
            layout: Layout::NONE,
        };
        let keys = KeySet::new([KEY]);
        let classification = Classification::of(&syn, &Socket::Unknown, || keys.as_ref());
        SynContext {
            classification,
            guard,
            ..SynContext::new(syn, Switches::OFF)
        }
    }

    /// The counters that the context raises, beside those of every SYN with 9 bytes of data.
    fn counted(context: &SynContext) -> std::vec::Vec<Counter> {
        let mut counters = Counters::default();
        context.count(&mut counters);
        assert_eq!(counters.get(Counter::Syns), 1);
        assert_eq!(counters.get(Counter::SynDataBytes), 9);
        let seen = [Counter::Syns, Counter::SynsWithData, Counter::SynDataBytes];
        let raised = |counter: &Counter| !seen.contains(counter) && counters.get(*counter) > 0;
        Counter::ALL.into_iter().filter(raised).collect()
    }

    #[test]
    fn the_guard_and_the_kernel_both_count_a_proven_syn() {
        let valid = FastOpen::Cookie(Cookie::from_word(0));
        let proven = Decision::new(GuardAction::Proven, true);
        assert_eq!(
            counted(&context(valid, proven)),
            [
                Counter::Passive,
                Counter::GuardProven,
                Counter::GuardSwitchedOn
            ]
        );
    }

    #[test]
    fn the_kernel_counts_what_it_sees() {
        let challenged = Decision::new(GuardAction::Challenged, false);
        for (fast_open, decision, expected) in [
            (
                FastOpen::Request,
                challenged,
                &[Counter::GuardChallenged, Counter::ReasonGuard][..],
            ),
            (
                FastOpen::Request,
                challenged.with_cookie(true),
                &[Counter::GuardChallenged, Counter::GuardCookies],
            ),
            (FastOpen::Absent, challenged, &[Counter::GuardChallenged]),
            (
                FastOpen::BadLength,
                challenged,
                &[Counter::GuardChallenged, Counter::ReasonBadLength],
            ),
            // Over its rate of answers, the kernel sees it.
            (
                FastOpen::BadLength,
                Decision::new(GuardAction::Capped, false),
                &[
                    Counter::PassiveFail,
                    Counter::GuardCapped,
                    Counter::ReasonBadLength,
                ],
            ),
        ] {
            assert_eq!(counted(&context(fast_open, decision)), expected);
        }
    }
}
