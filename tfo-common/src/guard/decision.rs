//! The guard's decision on one SYN, from the rule, the port's state, the classification and an injected clock. It changes
//! the port's state and nothing else.
//!
//! The data path decides alone, at each SYN; a controller that died changes nothing.

use super::{
    listener::ListenerFlags,
    rule::{GuardHead, GuardMode, GuardRule, PortState},
    source::{Bucket, is_martian},
};
use crate::{
    classify::{Classification, Outcome},
    counters::Counter,
    numbered::numbered,
    rate::Rate,
    wire::addresses::Addresses,
};

numbered! {
    /// An action of the guard on a SYN.
    #[derive(Default)]
    pub enum GuardAction: u32 else None {
        /// Nothing: the port is not guarded now, or no listener would be flooded.
        #[default]
        None = "none",
        /// Passes it: its cookie is valid.
        Proven = "proven",
        /// Passes it: the listener cannot be guarded.
        Unfit = "unfit",
        /// Answers it with a challenge.
        Challenged = "challenged",
        /// Drops it: its source exceeded the rate of answers.
        Capped = "capped",
        /// Drops it: its source address is martian.
        Martian = "martian",
    }
}

impl GuardAction {
    /// `true` if the kernel never sees the SYN.
    pub const fn blocks(self) -> bool {
        matches!(self, Self::Challenged | Self::Capped | Self::Martian)
    }

    /// The counter of SYNs with this action.
    #[inline(always)]
    pub const fn counter(self) -> Option<Counter> {
        Some(match self {
            Self::None => return None,
            Self::Proven => Counter::GuardProven,
            Self::Unfit => Counter::GuardUnfit,
            Self::Challenged => Counter::GuardChallenged,
            Self::Capped => Counter::GuardCapped,
            Self::Martian => Counter::GuardMartian,
        })
    }
}

/// The action, and whether the guard was switched on by this SYN, packed into one word.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Decision(u32);

impl Decision {
    /// Nothing is done.
    pub const NONE: Self = Self(0);
    const ACTION: u32 = 0xff;
    const SWITCHED_ON: u32 = 1 << 8;
    const COOKIE_ISSUED: u32 = 1 << 9;

    /// `action`, taken.
    #[inline(always)]
    pub const fn new(action: GuardAction, switched_on: bool) -> Self {
        let switched = if switched_on { Self::SWITCHED_ON } else { 0 };
        Self(action as u32 | switched)
    }

    /// The action.
    #[inline(always)]
    pub const fn action(self) -> GuardAction {
        GuardAction::from_number(self.0 & Self::ACTION)
    }

    /// This SYN switched the guard on.
    #[inline(always)]
    pub const fn switched_on(self) -> bool {
        self.0 & Self::SWITCHED_ON != 0
    }

    /// The challenge carried a Fast Open cookie.
    #[inline(always)]
    pub const fn cookie_issued(self) -> bool {
        self.0 & Self::COOKIE_ISSUED != 0
    }

    /// The same, with a challenge that carries a Fast Open cookie or not.
    #[inline(always)]
    #[must_use]
    pub const fn with_cookie(self, issued: bool) -> Self {
        Self(self.0 | if issued { Self::COOKIE_ISSUED } else { 0 })
    }

    /// The same without an action: the SYN goes on to the kernel.
    #[inline(always)]
    #[must_use]
    pub const fn without_action(self) -> Self {
        Self(self.0 & Self::SWITCHED_ON)
    }

    /// The same, each bit passed through `barrier` (see [`crate::wire::Frame::barrier_var`]).
    #[inline(always)]
    #[must_use]
    pub fn barrier_var(self, barrier: impl FnOnce(u64) -> u64) -> Self {
        Self(barrier(self.0.into()) as u32)
    }
}

/// The port's guarded time is extended by no less, in nanoseconds: all CPUs share its word, which is not to be written
/// at each SYN of a flood.
const STEP: u64 = 10_000_000;

/// Everything on which the decision about one SYN depends, but the sources' buckets.
#[derive(Clone, Copy)]
pub struct DecisionInput<'a> {
    /// The port's rule.
    pub rule: &'a GuardRule,
    /// The port's state.
    pub state: &'a PortState,
    /// The namespace's settings.
    pub head: &'a GuardHead,
    /// The listener that gets the SYN.
    pub listener: ListenerFlags,
    /// The SYN's classification, [`Classification::in_full`].
    pub classification: Classification,
    /// The SYN's addresses.
    pub addresses: &'a Addresses,
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub now: u64,
}

impl DecisionInput<'_> {
    /// Decides. `take` takes one token of the source, and is `false` where none is left.
    #[inline(always)]
    pub fn decide(&self, take: impl Fn(Bucket, Rate) -> bool) -> Decision {
        // A settled SYN takes no room in the listener's queues.
        if !self.listener.listens() || self.classification.is_settled() {
            return Decision::NONE;
        }
        let valid = matches!(
            self.classification.cookie_outcome(),
            Outcome::Primary | Outcome::Backup
        );
        let (on, switched_on) = self.update(valid);
        if !on {
            return Decision::NONE;
        }
        let action = if self.listener.is_unfit() {
            GuardAction::Unfit
        } else if valid && take(Bucket::Proven, self.head.proven) {
            GuardAction::Proven
        } else if is_martian(self.addresses) {
            GuardAction::Martian
        } else if !take(Bucket::Replies, self.head.replies) {
            GuardAction::Capped
        } else {
            GuardAction::Challenged
        };
        Decision::new(action, switched_on)
    }

    /// Updates the port's state with this SYN. Returns whether the port is guarded, and whether this SYN switched the
    /// guard on.
    #[inline(always)]
    fn update(&self, valid: bool) -> (bool, bool) {
        let Self {
            rule, state, now, ..
        } = *self;
        let until = state.until.load();
        let on = now < until;
        if valid || !matches!(rule.mode(), GuardMode::Auto) {
            return (on, false);
        }
        let bucket = state.bucket.load();
        let flooded = match rule.take(on, bucket, now) {
            Some(next) => {
                state.bucket.compare_exchange(bucket, next);
                false
            }
            None => true,
        };
        let next = now.wrapping_add(rule.quiet);
        let extends = flooded || self.listener.is_syn_queue_half_full();
        if !extends || next < until.wrapping_add(STEP) {
            return (on, false);
        }
        if !on {
            // Before `until`: an ACK that sees the guard on must not see it on since long ago.
            state.since.store(now);
        }
        // Of several CPUs, one switches the guard on.
        let first = state.until.compare_exchange(until, next) == until;
        if on || !first {
            return (true, false);
        }
        state.switches.fetch_add(1);
        (true, true)
    }
}

/// `true` if the SYN-ACK to a SYN with this classification carries a Fast Open cookie, where the listener issues any.
#[inline(always)]
pub const fn needs_cookie(classification: Classification) -> bool {
    matches!(
        classification.cookie_outcome(),
        Outcome::Request | Outcome::BadCookie | Outcome::BadLength | Outcome::Backup
    )
}

#[cfg(test)]
mod tests;
