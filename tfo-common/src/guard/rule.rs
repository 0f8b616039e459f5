//! The rule of a port, its state, and the settings of a namespace: the values of the guard's maps.

use core::mem::offset_of;

use crate::{atomic::AtomicWord, numbered::numbered, rate::Rate};

numbered! {
    /// The condition under which a port is guarded.
    #[derive(Default)]
    pub enum GuardMode: u32 else Off {
        /// Never. Answers to earlier challenges are still accepted.
        #[default]
        Off = "off",
        /// Always.
        On = "on",
        /// During a flood.
        Auto = "auto",
    }
}

/// The rule of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuardRule {
    /// The [`GuardMode`]'s number.
    pub mode: u32,
    /// Zero.
    pub reserved: u32,
    /// Rate of SYNs without a valid cookie that switches the guard on; half of it keeps it on.
    pub above: Rate,
    /// Nanoseconds for which the guard stays on after the flood.
    pub quiet: u64,
}

impl GuardRule {
    /// From the words of the map's value.
    #[inline(always)]
    pub const fn from_words([mode, above, quiet]: [u64; 3]) -> Self {
        Self {
            mode: mode as u32,
            reserved: 0,
            above: rate_from_word(above),
            quiet,
        }
    }

    /// The mode.
    #[inline(always)]
    pub const fn mode(&self) -> GuardMode {
        GuardMode::from_number(self.mode)
    }

    /// Takes one token for a SYN without a valid cookie at `now`, in nanoseconds, while the guard is on or off. `None`
    /// where the bucket is empty: the port is flooded.
    #[inline(always)]
    pub const fn take(&self, on: bool, state: u64, now: u64) -> Option<u64> {
        let mut rate = self.above;
        if on {
            // Half the rate keeps the guard on, so that it does not oscillate.
            rate.per_second = rate.per_second.div_ceil(2);
        }
        rate.take(state, now)
    }
}

/// A value of the map `GUARD_PORTS`. The program changes all but the rule, as a [`PortState`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuardPort {
    /// The rule.
    pub rule: GuardRule,
    /// End of the guarded time, in nanoseconds of `CLOCK_MONOTONIC`; 0 where the port was never guarded.
    pub until: u64,
    /// Start of the guarded time, this one or the last; 0 where the port was never guarded.
    pub since: u64,
    /// Bucket of SYNs without a valid cookie.
    pub bucket: u64,
    /// Number of times that the guard was switched on.
    pub switches: u64,
    /// Time of the last challenge, to some milliseconds; 0 where none was sent.
    pub challenged: u64,
    /// Bucket of wrong ACKs ([`WRONG_ACKS`]).
    pub wrong_acks: u64,
}

// SAFETY: `repr(C)`, two u32, a `Rate` and u64: no padding, and any bytes are a port.
#[cfg(feature = "user")]
unsafe impl aya::Pod for GuardPort {}

impl GuardPort {
    /// `true` if the port is guarded at `now`.
    #[inline(always)]
    pub const fn is_on(&self, now: u64) -> bool {
        now < self.until
    }
}

/// The state of a port as the program changes it: the fields of [`GuardPort`] behind the rule.
#[repr(C)]
#[derive(Default)]
pub struct PortState {
    /// See [`GuardPort::until`].
    pub until: AtomicWord,
    /// See [`GuardPort::since`].
    pub since: AtomicWord,
    /// See [`GuardPort::bucket`].
    pub bucket: AtomicWord,
    /// See [`GuardPort::switches`].
    pub switches: AtomicWord,
    /// See [`GuardPort::challenged`].
    pub challenged: AtomicWord,
    /// See [`GuardPort::wrong_acks`].
    pub wrong_acks: AtomicWord,
}

/// Wrong ACKs that go on to the kernel, which answers with a reset. Those beyond are a flood.
pub const WRONG_ACKS: Rate = Rate {
    per_second: 10_000,
    burst: 10_000,
};

/// The words of a port's state that change at each SYN of a flood are not written more often, in nanoseconds: all CPUs
/// share them.
pub(crate) const STEP: u64 = 10_000_000;

impl PortState {
    /// Offset of the state in a [`GuardPort`].
    pub const OFFSET: usize = offset_of!(GuardPort, until);

    /// Notes that a challenge is sent at `now`.
    #[inline(always)]
    pub fn challenge(&self, now: u64) {
        if now.wrapping_sub(self.challenged.load()) > STEP {
            self.challenged.store(now);
        }
    }

    /// `true` while a challenge that was sent may be answered. Those of other hosts are not known.
    #[inline(always)]
    pub fn accepts_answers(&self, head: &GuardHead, now: u64) -> bool {
        let challenged = self.challenged.load();
        head.is_shared()
            || challenged != 0
                && now
                    < challenged
                        .saturating_add(head.validity())
                        .saturating_add(STEP)
    }

    /// `true` while the port gets more wrong ACKs than [`WRONG_ACKS`]. An ACK without timestamps then proves nothing: its
    /// challenge has too few bits against so many guesses.
    #[inline(always)]
    pub fn is_guessed_at(&self, now: u64) -> bool {
        WRONG_ACKS.take(self.wrong_acks.load(), now).is_none()
    }
}

const _: () = {
    assert!(PortState::OFFSET + offset_of!(PortState, since) == offset_of!(GuardPort, since));
    assert!(PortState::OFFSET + offset_of!(PortState, bucket) == offset_of!(GuardPort, bucket));
    assert!(PortState::OFFSET + offset_of!(PortState, switches) == offset_of!(GuardPort, switches));
    assert!(
        PortState::OFFSET + offset_of!(PortState, challenged) == offset_of!(GuardPort, challenged)
    );
    assert!(PortState::OFFSET + size_of::<PortState>() == size_of::<GuardPort>());
};

/// Settings for all guarded ports of a namespace: the value of the map `GUARD`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuardHead {
    /// log2 of a time slot's nanoseconds: [`SLOT_SHIFT`], but in tests.
    pub slot_shift: u32,
    /// Window scale that the kernel advertises: `tcp_select_initial_window`.
    pub window_scale: u32,
    /// Greatest MSS of the host's, in bytes: the least that one of its routes advertises; 0 for no bound.
    pub mss: u32,
    /// Not 0 where the kernel drops IPv4 packets whose source it would reach by another device (`rp_filter` 1).
    pub strict: u32,
    /// Rate of challenges per source: an IPv4 address, or the first 64 bits of an IPv6 address. SYNs beyond go on to the
    /// kernel.
    pub replies: Rate,
    /// Rate of SYNs with a valid cookie per source; those beyond are challenged.
    pub proven: Rate,
    /// Nanoseconds from `CLOCK_MONOTONIC` to the clock that counts time slots: to the wall clock where other hosts take
    /// challenges of this one, and this one theirs; else 0.
    pub clock_offset: u64,
}

// SAFETY: `repr(C)`, four u32, two pairs of them and a u64: no padding, and any bytes are a head.
#[cfg(feature = "user")]
unsafe impl aya::Pod for GuardHead {}

/// log2 of a time slot's nanoseconds: 68.7 seconds. A challenge is good in its slot and in the next one.
pub const SLOT_SHIFT: u32 = 36;
/// Number of secrets, one per time slot in turn. The one of the slot after the next can be replaced while packets are
/// checked against the others.
pub const SECRETS: usize = 4;

impl GuardHead {
    /// From the words of the map's value.
    #[inline(always)]
    pub const fn from_words([scale, mss, replies, proven, clock_offset]: [u64; 5]) -> Self {
        Self {
            slot_shift: scale as u32,
            window_scale: (scale >> 32) as u32,
            mss: mss as u32,
            strict: (mss >> 32) as u32,
            replies: rate_from_word(replies),
            proven: rate_from_word(proven),
            clock_offset,
        }
    }

    /// Other hosts have the same secrets.
    #[inline(always)]
    pub const fn is_shared(&self) -> bool {
        self.clock_offset != 0
    }

    /// The time slot of `now`, in nanoseconds.
    #[inline(always)]
    pub const fn slot(&self, now: u64) -> u64 {
        now.wrapping_add(self.clock_offset) >> (self.slot_shift % u64::BITS)
    }

    /// The later one of the two time slots whose challenges are good at `now`. Where other hosts challenge, too, their
    /// clocks may be ahead or behind by half a slot.
    #[inline(always)]
    pub const fn last_slot(&self, now: u64) -> u64 {
        let ahead = if self.is_shared() {
            self.slot_length() / 2
        } else {
            0
        };
        self.slot(now.wrapping_add(ahead))
    }

    #[inline(always)]
    const fn slot_length(&self) -> u64 {
        1 << (self.slot_shift % u64::BITS)
    }

    /// `mss`, or the least of it and [`Self::mss`].
    #[inline(always)]
    pub const fn limited_mss(&self, mss: u16) -> u16 {
        if self.mss != 0 && self.mss < mss as u32 {
            self.mss as u16
        } else {
            mss
        }
    }

    /// Nanoseconds for which a challenge is good at most.
    #[inline(always)]
    pub const fn validity(&self) -> u64 {
        2 * self.slot_length()
    }
}

/// Index of the secret of a time slot.
#[inline(always)]
pub const fn secret_index(slot: u64) -> u32 {
    slot as u32 % SECRETS as u32
}

/// A rate as a little-endian word of a map's value.
#[inline(always)]
const fn rate_from_word(word: u64) -> Rate {
    Rate {
        per_second: word as u32,
        burst: (word >> 32) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    /// `true` if SYNs at `rate` for 10 seconds are a flood.
    fn floods(on: bool, rate: u64) -> bool {
        let rule = GuardRule {
            above: Rate {
                per_second: 1000,
                burst: 100,
            },
            ..GuardRule::default()
        };
        let mut state = 0;
        (0..10 * rate).any(|n| match rule.take(on, state, SECOND + n * SECOND / rate) {
            Some(next) => {
                state = next;
                false
            }
            None => true,
        })
    }

    #[test]
    fn a_guarded_port_stays_so_at_half_the_rate() {
        assert!(!floods(false, 990) && floods(false, 1100));
        assert!(!floods(true, 490) && floods(true, 550));
    }

    /// A challenge that a host issues is good at another one whose clock differs by less than half a slot.
    #[test]
    fn shared_slots_bear_clocks_that_differ() {
        const SLOT: u64 = 1 << SLOT_SHIFT;
        let head = |clock_offset| GuardHead {
            slot_shift: SLOT_SHIFT,
            clock_offset,
            ..GuardHead::default()
        };
        let wall = 1_700_000_000 * SECOND;
        let issuer = head(wall);
        let is_good = |taker: &GuardHead, issued: u64, now: u64| {
            let (slot, last) = (issuer.slot(issued), taker.last_slot(now));
            slot == last || slot + 1 == last
        };
        for issued in (0..2 * SLOT).step_by((SLOT / 16) as usize) {
            for skew in [SLOT / 2 - 1, 4 * SLOT / 10, 0] {
                for offset in [wall + skew, wall - skew] {
                    assert!(is_good(&head(offset), issued, issued), "{issued} {offset}");
                }
            }
            // With right clocks, for half a slot at least, and less than two.
            assert!(is_good(&issuer, issued, issued + SLOT / 2 - 1));
            assert!(!is_good(&issuer, issued, issued + 2 * SLOT));
            assert!(!is_good(&head(wall + 2 * SLOT), issued, issued));
            assert!(!is_good(&head(wall - 2 * SLOT), issued, issued));
        }
        // A host that is alone has the whole of two slots.
        let alone = head(0);
        assert_eq!(alone.last_slot(5 * SLOT - 1), 4);
        assert!(!alone.is_shared() && issuer.is_shared());
    }
}
