//! The guard's decision on one SYN, from the rule, the port's state, the classification and an injected clock. It changes
//! the port's state and nothing else.
//!
//! The data path decides alone, at each SYN; a controller that died changes nothing.

use super::{
    listener::ListenerFlags,
    rule::{GuardHead, GuardMode, GuardRule, PortState, STEP},
    source::Bucket,
};
use crate::{
    classify::{Classification, Outcome},
    counters::Counter,
    numbered::numbered,
    rate::Rate,
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
        /// Passes it: its source exceeded the rate of answers.
        Capped = "capped",
        /// Passes it: the way back to its source is not known, or the frame has no room for the answer.
        Unanswered = "unanswered",
        /// Answers it with a challenge for a host behind this one, which takes the answer.
        Referred = "referred",
    }
}

impl GuardAction {
    /// `true` if the kernel never sees the SYN.
    pub const fn blocks(self) -> bool {
        matches!(self, Self::Challenged | Self::Referred)
    }

    /// The counter of SYNs with this action.
    #[inline(always)]
    pub const fn counter(self) -> Option<Counter> {
        Some(match self {
            Self::None => return None,
            Self::Proven => Counter::GuardProven,
            Self::Unfit => Counter::GuardUnfit,
            Self::Challenged => Counter::GuardChallenged,
            Self::Referred => Counter::GuardReferred,
            Self::Capped => Counter::GuardCapped,
            Self::Unanswered => Counter::GuardUnanswered,
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

    /// The same, but with this action.
    #[inline(always)]
    #[must_use]
    pub const fn with_action(self, action: GuardAction) -> Self {
        Self::new(action, self.switched_on())
    }

    /// The same, each bit passed through `barrier` (see [`crate::wire::Frame::barrier_var`]).
    #[inline(always)]
    #[must_use]
    pub fn barrier_var(self, barrier: impl FnOnce(u64) -> u64) -> Self {
        Self(barrier(self.0.into()) as u32)
    }
}

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
    /// Nanoseconds of `CLOCK_MONOTONIC`.
    pub now: u64,
}

impl DecisionInput<'_> {
    /// Decides. `take` takes one token of the source, and is `false` where none is left.
    #[inline(always)]
    pub fn decide(&self, take: impl Fn(Bucket, Rate) -> bool) -> Decision {
        // A settled SYN takes no room in the listener's queues. At a full accept queue the kernel drops it, and the client
        // sends it again: a challenge would promise what the listener does not keep.
        if !self.listener.listens()
            || self.classification.is_settled()
            || self.listener.is_accept_queue_full()
        {
            return Decision::NONE;
        }
        // A valid cookie that the kernel does not honour now takes room in the SYN queue, or is answered with a SYN cookie.
        let proven = self.classification.has_valid_cookie() && self.classification.takes_data();
        let (on, switched_on) = self.update(proven);
        if !on {
            return Decision::NONE;
        }
        let action = if self.listener.is_unfit() {
            GuardAction::Unfit
        } else if proven && take(Bucket::Proven, self.head.proven) {
            GuardAction::Proven
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
    fn update(&self, proven: bool) -> (bool, bool) {
        let Self {
            rule, state, now, ..
        } = *self;
        let until = state.until.load();
        let on = now < until;
        if !matches!(rule.mode(), GuardMode::Auto) {
            return (on, false);
        }
        // A full queue is this listener's alone, whichever others the rule holds for: nothing is switched.
        let pressed = self.listener.is_syn_queue_pressed();
        if proven {
            return (on || pressed, false);
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
        if !flooded || next < until.wrapping_add(STEP) {
            return (on || pressed, false);
        }
        if !on {
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
