//! The ACK that answers a challenge, and the one that answers none.

use super::rule::{PortState, WRONG_ACKS};
use crate::wire::{ack::Ack, addresses::Addresses};

/// Nanoseconds for which an accepted connection may still be unknown to TCP, because packets arrive in batches. More than
/// two ticks of the clock.
pub const UNKNOWN_TO_TCP: u64 = 25_000_000;

/// The action on an ACK that the guard does not know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WrongAck {
    /// The kernel decides: it may answer one of its SYN cookies, and else gets a reset.
    Passed,
    /// There are too many.
    Dropped,
}

impl WrongAck {
    /// Decides, and takes a token of the port's. `shared`: other hosts challenge for the port. `overflowed`: the listener's
    /// SYN queue overflowed so recently that the kernel checks SYN cookies (`tcp_synq_no_recent_overflow`).
    #[inline(always)]
    pub fn decide(state: &PortState, shared: bool, overflowed: bool, now: u64) -> Self {
        // Also of those that pass in any case: guesses are to be noticed.
        let taken = WRONG_ACKS.take_shared(&state.wrong_acks, now);
        let on = shared || now < state.until.load();
        if !on || overflowed || taken {
            Self::Passed
        } else {
            Self::Dropped
        }
    }
}

/// A connection that an ACK opened a moment ago. An entry of the map `JUST_ACCEPTED`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct JustAccepted {
    addresses: u64,
    ports: u32,
    acknowledged: u32,
    at: u64,
}

impl JustAccepted {
    /// The connection of `ack`, accepted at `now`.
    #[inline(always)]
    pub fn new(ack: &Ack, now: u64) -> Self {
        let addresses = match &ack.addresses {
            Addresses::V4(word) => *word,
            Addresses::V6([a, b, c, d]) => {
                a ^ b.rotate_left(1) ^ c.rotate_left(2) ^ d.rotate_left(3)
            }
        };
        Self {
            addresses,
            ports: ack.ports,
            acknowledged: ack.acknowledged,
            at: now,
        }
    }

    /// Index of the entry for the connection of `ack`, to be taken modulo the number of entries. Without timestamps, the
    /// low bits of an ISN are the same for all clients of a kind.
    #[inline(always)]
    pub const fn index(ack: &Ack) -> u32 {
        ack.ports >> 8 ^ ack.acknowledged >> 9
    }

    /// `true` if `ack` is of this connection, which TCP may not know yet at `now`.
    #[inline(always)]
    pub fn covers(&self, ack: &Ack, now: u64) -> bool {
        let Self {
            addresses,
            ports,
            acknowledged,
            ..
        } = Self::new(ack, now);
        self.addresses == addresses
            && self.ports == ports
            && self.acknowledged == acknowledged
            && now.wrapping_sub(self.at) < UNKNOWN_TO_TCP
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::guard::{GuardHead, SLOT_SHIFT};

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn only_too_many_wrong_acks_are_dropped() {
        let state = PortState::default();
        let decide = |now| WrongAck::decide(&state, false, false, now);
        let passed = (0..20_000).filter(|_| decide(SECOND) == WrongAck::Passed);
        assert_eq!(passed.count(), 20_000, "the guard is off");
        assert!(state.is_guessed_at(SECOND));
        state.until.store(u64::MAX);
        state.wrong_acks.store(0);
        let passed = (0..20_000).filter(|_| decide(SECOND) == WrongAck::Passed);
        assert_eq!(passed.count(), 10_000);
        assert!(state.is_guessed_at(SECOND));
        assert_eq!(
            WrongAck::decide(&state, false, true, SECOND),
            WrongAck::Passed
        );
        state.until.store(0);
        assert_eq!(decide(SECOND), WrongAck::Passed);
        assert_eq!(
            WrongAck::decide(&state, true, false, SECOND),
            WrongAck::Dropped
        );
        state.until.store(u64::MAX);
        assert_eq!(decide(2 * SECOND), WrongAck::Passed);
        assert!(!state.is_guessed_at(2 * SECOND));
    }

    #[test]
    fn answers_are_accepted_until_the_last_challenge_expires() {
        let head = GuardHead {
            slot_shift: SLOT_SHIFT,
            ..GuardHead::default()
        };
        let state = PortState::default();
        assert!(!state.accepts_answers(&head, SECOND));
        state.challenge(20 * SECOND);
        assert!(state.accepts_answers(&head, 20 * SECOND + (2 << SLOT_SHIFT)));
        assert!(!state.accepts_answers(&head, 21 * SECOND + (2 << SLOT_SHIFT)));
    }

    /// Two clients whose ISNs differ in the MAC alone, or whose ports follow each other.
    #[test]
    fn clients_of_a_kind_have_entries_of_their_own() {
        let ack = Ack {
            addresses: Addresses::v4([10, 0, 0, 2], [10, 0, 0, 1]),
            ports: u32::from_le_bytes([0x9c, 0x40, 0x01, 0xbb]),
            sequence: 1,
            acknowledged: 0x0123_4567,
            timestamps: None,
            tcp: 0,
            len: 0,
        };
        let isn = Ack {
            acknowledged: ack.acknowledged ^ 1 << 9,
            ..ack
        };
        let port = Ack {
            ports: u32::from_le_bytes([0x9c, 0x41, 0x01, 0xbb]),
            ..ack
        };
        for other in [isn, port] {
            assert_ne!(
                JustAccepted::index(&ack) % 64,
                JustAccepted::index(&other) % 64
            );
        }
    }

    #[test]
    fn a_connection_is_remembered_for_its_own_segments_and_for_a_moment() {
        let ack = Ack {
            addresses: Addresses::v4([10, 0, 0, 2], [10, 0, 0, 1]),
            ports: 7,
            sequence: 1,
            acknowledged: 2,
            timestamps: None,
            tcp: 0,
            len: 0,
        };
        let accepted = JustAccepted::new(&ack, SECOND);
        // The data behind the ACK has another sequence number.
        let data = Ack {
            sequence: 1000,
            ..ack
        };
        assert!(accepted.covers(&data, SECOND + UNKNOWN_TO_TCP - 1));
        assert!(!accepted.covers(&data, SECOND + UNKNOWN_TO_TCP));
        for other in [
            Ack { ports: 8, ..ack },
            Ack {
                acknowledged: 3,
                ..ack
            },
            Ack {
                addresses: Addresses::V6([1, 2, 3, 4]),
                ..ack
            },
        ] {
            assert!(!accepted.covers(&other, SECOND));
        }
    }
}
