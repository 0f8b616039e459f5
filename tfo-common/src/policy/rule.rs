//! The rule of a port, and what else a policy's maps hold.

use super::{class::Class, limit::Limit};
use crate::{rate::Rate, wire::addresses::PrefixMask};

/// The entry of a source in a policy's lists.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum ListEntry {
    /// On no list.
    None,
    /// On the allow list: no rule and no limit applies.
    Allow,
    /// On the deny list: [`Rule::denied`] applies.
    Deny,
}

impl ListEntry {
    /// The entry with this number in the map `POLICY_LISTS`.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Allow,
            2 => Self::Deny,
            _ => Self::None,
        }
    }
}

/// The rule of a port, as operators set it. All zeroes pass everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// The [`super::Action`]'s number for SYNs within their limits, by [`Class`].
    pub actions: [u8; Class::ALL.len()],
    /// The [`super::Action`]'s number for sources on the deny list.
    pub denied: u8,
    /// The number of the [`super::Action`] in place of a rewrite, where the listener takes data without a cookie: pass or drop.
    pub no_cookie: u8,
    /// Not 0: actions are counted, not taken.
    pub dry_run: u8,
    /// The number of what makes two SYNs the same to [`super::Action::Once`]: an [`super::once::OnceBy`].
    pub once_by: u8,
    /// Nanoseconds for which cookies are withheld from sources that waste them ([`super::withhold`]); 0 for not at all.
    pub withhold: u64,
    /// The prefixes by which sources are limited, and remembered.
    pub sources: PrefixMask,
    /// Limits by [`Class`]. That of [`Class::Data`] holds for all SYNs whose data would be taken.
    pub limits: [Limit; Class::ALL.len()],
}

/// A value of the map `POLICY_RULES`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortRule {
    /// The rule.
    pub rule: Rule,
    /// Buckets of the port's limits, by [`Class`]; 0 at first. The program changes them.
    pub buckets: [u64; Class::ALL.len()],
}

// SAFETY: `repr(C)`: eight u8, then u64 and pairs of u32: no padding, and any bytes are a rule.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PortRule {}

impl Rule {
    /// Passes everything.
    pub const PASS: Self = Self {
        actions: [0; Class::ALL.len()],
        denied: 0,
        no_cookie: 0,
        dry_run: 0,
        once_by: 0,
        withhold: 0,
        sources: PrefixMask::OFF,
        limits: [Limit {
            source: Rate::UNLIMITED,
            port: Rate::UNLIMITED,
        }; Class::ALL.len()],
    };

    /// `true` if the rule may act on SYNs of this class.
    pub fn acts_on(&self, class: Class) -> bool {
        let is_limited = |class: Class| {
            let Limit { source, port } = self.limits[class as usize];
            !(source.is_unlimited() && port.is_unlimited())
        };
        self.actions[class as usize] != 0
            || self.withhold != 0
            || is_limited(class)
            // Of all SYNs whose data is taken.
            || is_limited(Class::Data)
    }
}
