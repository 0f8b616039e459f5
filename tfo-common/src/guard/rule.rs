//! When a port is guarded: always, or while it is flooded.
//!
//! The data path decides by itself, at each SYN without proof; a controller that died changes nothing.

use crate::policy::Rate;

/// When a port is guarded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(u32)]
pub enum Mode {
    /// Never; proof of what was challenged before is taken still.
    #[default]
    Off,
    /// Always.
    On,
    /// While it is flooded.
    Auto,
}

impl Mode {
    /// Every mode, in the order of its discriminant.
    pub const ALL: [Self; 3] = [Self::Off, Self::On, Self::Auto];

    /// The mode's name, as operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Off => "off",
            Self::On => "on",
            Self::Auto => "auto",
        }
    }

    /// The mode that a map holds as this number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::On,
            2 => Self::Auto,
            _ => Self::Off,
        }
    }
}

/// What is said of a port.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuardRule {
    /// The [`Mode`]'s number.
    pub mode: u32,
    /// Zero.
    pub reserved: u32,
    /// The port is flooded where SYNs without proof come faster; half as fast keeps it so.
    pub above: Rate,
    /// How long it stays guarded after that, in nanoseconds.
    pub quiet: u64,
}

/// A port's rule and its state, which the data path changes: u64 each, and each for itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct GuardPort {
    /// What is said of it.
    pub rule: GuardRule,
    /// It is guarded until then, in nanoseconds as `CLOCK_MONOTONIC`; 0 where it never was.
    pub until: u64,
    /// Since when it is guarded, or since when it was for the last time; 0 where it never was.
    pub since: u64,
    /// The bucket of SYNs without proof.
    pub bucket: u64,
    /// How often it came to be guarded.
    pub switches: u64,
}

// SAFETY: `repr(C)`, two u32, a `Rate` and u64: no padding, and any bytes are a port.
#[cfg(feature = "user")]
unsafe impl aya::Pod for GuardPort {}

impl GuardPort {
    /// Whether it is guarded at `now`.
    #[inline(always)]
    pub const fn is_on(&self, now: u64) -> bool {
        now < self.until
    }
}

impl GuardRule {
    /// Takes a SYN without proof that comes at `now`, of a port that is guarded or not, from the bucket `state`.
    /// `None` where it is one too many: the port is flooded.
    #[inline(always)]
    pub const fn take(&self, on: bool, state: u64, now: u64) -> Option<u64> {
        let mut rate = self.above;
        if on {
            // Half as many keep it guarded, so that it does not go on and off at the edge.
            rate.per_second = rate.per_second.div_ceil(2);
        }
        rate.take(state, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;

    #[test]
    fn modes_are_in_the_order_of_their_discriminants() {
        for (index, mode) in Mode::ALL.into_iter().enumerate() {
            assert_eq!(mode as usize, index);
            assert_eq!(Mode::from_number(index as u32), mode);
        }
    }

    /// Whether SYNs that come at `rate` for 10 seconds are too many.
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
}
