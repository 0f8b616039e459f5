//! The ACK that answers a challenge: when one is looked for, and when a wrong one is dropped.

use super::rule::GuardHead;
use crate::wire::{ack::Ack, addresses::Addresses};

/// Nanoseconds after the guard was switched on in which an ACK of no connection may answer a SYN cookie of the kernel's:
/// the kernel decides.
pub const GRACE: u64 = 3_000_000_000;

/// Nanoseconds for which an accepted connection may still be unknown to TCP, because packets arrive in batches. More than
/// two ticks of the clock.
pub const UNKNOWN_TO_TCP: u64 = 25_000_000;

/// The guarded time of a port, this one or the last, in nanoseconds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct GuardedTime {
    /// Start.
    pub since: u64,
    /// End, not included.
    pub until: u64,
}

impl GuardedTime {
    /// `true` while a challenge that was sent at its end is good.
    #[inline(always)]
    pub const fn accepts_answers(self, head: &GuardHead, now: u64) -> bool {
        now < self.until.saturating_add(head.validity())
    }

    /// `true` if a wrong ACK is dropped: the guard is on, and every SYN cookie of the kernel's was answered before.
    #[inline(always)]
    pub const fn drops_wrong_acks(self, now: u64) -> bool {
        now < self.until && now >= self.since.saturating_add(GRACE)
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
    use crate::guard::SLOT_SHIFT;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn a_wrong_ack_is_dropped_between_grace_and_end() {
        let time = GuardedTime {
            since: 10 * SECOND,
            until: 20 * SECOND,
        };
        for (now, drops) in [
            (10 * SECOND, false),
            (13 * SECOND - 1, false),
            (13 * SECOND, true),
            (20 * SECOND - 1, true),
            (20 * SECOND, false),
        ] {
            assert_eq!(time.drops_wrong_acks(now), drops, "{now}");
        }
    }

    #[test]
    fn answers_are_accepted_until_the_last_challenge_expires() {
        let head = GuardHead {
            slot_shift: SLOT_SHIFT,
            ..GuardHead::default()
        };
        let time = GuardedTime {
            since: 0,
            until: 20 * SECOND,
        };
        assert!(time.accepts_answers(&head, 20 * SECOND + (2 << SLOT_SHIFT) - 1));
        assert!(!time.accepts_answers(&head, 20 * SECOND + (2 << SLOT_SHIFT)));
        // A port with the rule "on" is guarded for ever.
        let always = GuardedTime {
            since: 0,
            until: u64::MAX,
        };
        assert!(always.accepts_answers(&head, u64::MAX - 1));
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
