//! The switches of a network namespace, in one word that the data path loads for every SYN.

use crate::policy::Class;

/// Bits, and the slot of the policy in force: the value of the map [`crate::abi::SWITCHES`]. The controller changes it under
/// the namespace's lock, in one write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct Switches {
    on: u32,
    policy: u32,
}

impl Switches {
    /// A port of this host has a rule of the guard's.
    pub const GUARD_HOST: u32 = 1;
    /// Ports of this host without a rule of the guard's of their own have one, too.
    pub const GUARD_REST: u32 = 1 << 7;
    /// An address behind this host has a rule of the guard's.
    pub const GUARD_EDGE: u32 = 1 << 1;
    /// The guard has a rule.
    pub const GUARD: u32 = Self::GUARD_HOST | Self::GUARD_REST | Self::GUARD_EDGE;
    /// Own cookies are in force.
    pub const OWN_COOKIES: u32 = 1 << 2;
    /// The data path of an interface moves to another hook. The XDP program marks the packets that it meets then, and the TC
    /// program leaves marked ones alone.
    pub const MOVING: u32 = 1 << 3;
    /// The policy has lists.
    pub const LISTS: u32 = 1 << 4;
    /// Some rule of the policy withholds cookies: [`crate::policy::Rule::withhold`].
    pub const WITHHOLDS: u32 = 1 << 5;
    /// Some port has a rule of the policy's of its own.
    pub const PORTS: u32 = 1 << 6;
    /// The first of the bits of classes: the policy may act on SYNs of this class.
    const CLASSES: u32 = 8;

    /// Nothing is on.
    pub const OFF: Self = Self { on: 0, policy: 0 };

    /// The bit of a class.
    #[inline(always)]
    pub const fn of_class(class: Class) -> u32 {
        1 << (Self::CLASSES + class as u32)
    }

    /// `bit` if it is to be set.
    pub const fn bit_if(set: bool, bit: u32) -> u32 {
        if set { bit } else { 0 }
    }

    /// All bits that belong to a policy.
    const OF_POLICY: u32 = Self::LISTS
        | Self::WITHHOLDS
        | Self::PORTS
        | ((1 << Class::ALL.len()) - 1) << Self::CLASSES;

    /// From both halves, read at once.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self {
            on: word as u32,
            policy: (word >> u32::BITS) as u32,
        }
    }

    /// `true` if one of these bits is set.
    #[inline(always)]
    pub const fn has(self, bits: u32) -> bool {
        self.on & bits != 0
    }

    /// `true` if all rules of the guard are of addresses behind this host.
    pub const fn guards_edges_alone(self) -> bool {
        self.on & Self::GUARD == Self::GUARD_EDGE
    }

    /// There is a policy.
    #[inline(always)]
    pub const fn has_policy(self) -> bool {
        self.policy != 0
    }

    /// The policy in force may act on SYNs of this class.
    #[inline(always)]
    pub const fn acts_on(self, class: Class) -> bool {
        self.has(Self::of_class(class))
    }

    /// Index of the policy in force in the maps of maps; `None` where there is none.
    #[inline(always)]
    pub const fn policy_slot(self) -> Option<u32> {
        self.policy.checked_sub(1)
    }

    /// The same with `bits` in place of those of `mask`.
    #[inline(always)]
    #[must_use]
    pub const fn replaced(self, mask: u32, bits: u32) -> Self {
        Self {
            on: self.on & !mask | bits,
            ..self
        }
    }

    /// The same with the policy of this slot and these bits, or none.
    #[must_use]
    pub const fn with_policy(self, policy: Option<(u32, u32)>) -> Self {
        let (slot, bits) = match policy {
            Some((slot, bits)) => (slot + 1, bits),
            None => (0, 0),
        };
        Self {
            policy: slot,
            ..self.replaced(Self::OF_POLICY, bits)
        }
    }
}

// SAFETY: `repr(C)` and u32 throughout: no padding, and any bytes are of its type.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Switches {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_policy_comes_and_goes_without_the_rest() {
        let guarded = Switches::OFF.replaced(Switches::GUARD_HOST, Switches::GUARD_HOST);
        let bits = Switches::of_class(Class::Bad) | Switches::LISTS;
        let both = guarded.with_policy(Some((1, bits)));
        assert_eq!(both.policy_slot(), Some(1));
        assert!(both.has(Switches::GUARD_HOST) && both.has(Switches::LISTS));
        assert!(both.acts_on(Class::Bad) && !both.acts_on(Class::Valid));
        assert_eq!(both.with_policy(None), guarded);
    }

    #[test]
    fn its_halves_are_one_word() {
        let switches = Switches::OFF.with_policy(Some((0, Switches::LISTS)));
        let word = u64::from(Switches::LISTS) | 1 << 32;
        assert_eq!(Switches::from_word(word), switches);
    }
}
