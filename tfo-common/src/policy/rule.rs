//! What a policy says about a port.

use super::{Action, Limit};
use crate::{classify::Outcome, sources::SourceSettings, syn::Syn};

/// What a SYN is to a policy.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Class {
    /// With a cookie of one of the keys.
    Valid,
    /// With a cookie of no key, or of a length that is never issued.
    Bad,
    /// Asks for a cookie.
    Request,
    /// With data, but without an option that counts. The kernel takes it only where it needs no cookie.
    Data,
}

impl Class {
    /// Every class, in the order of its discriminant.
    pub const ALL: [Self; 4] = [Self::Valid, Self::Bad, Self::Request, Self::Data];

    /// The class's name, as operators write it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Valid => "valid",
            Self::Bad => "bad",
            Self::Request => "request",
            Self::Data => "data",
        }
    }

    /// The class of `syn`, whose option is worth `merit`; `None` where it has neither option nor data.
    #[inline(always)]
    pub const fn of(syn: &Syn, merit: Outcome) -> Option<Self> {
        match merit {
            Outcome::Primary | Outcome::Backup => Some(Self::Valid),
            Outcome::BadCookie | Outcome::BadLength => Some(Self::Bad),
            Outcome::Request => Some(Self::Request),
            _ if syn.data_len > 0 => Some(Self::Data),
            _ => None,
        }
    }

    /// What becomes of a SYN that is one too many.
    #[inline(always)]
    pub const fn over_limit(self) -> Action {
        match self {
            Self::Bad => Action::Drop,
            Self::Valid | Self::Request | Self::Data => Action::Fallback,
        }
    }
}

/// What a list says of a source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u32)]
pub enum Listed {
    /// Nothing.
    No,
    /// No rule and no limit holds for it.
    Allowed,
    /// [`Rule::denied`] holds for it.
    Denied,
}

impl Listed {
    /// What a map holds as this number.
    #[inline(always)]
    pub const fn from_number(number: u32) -> Self {
        match number {
            1 => Self::Allowed,
            2 => Self::Denied,
            _ => Self::No,
        }
    }
}

/// What is done at a port. All zeroes pass everything.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Rule {
    /// What is done to SYNs within their limits, by [`Class`]: an [`Action`]'s number each.
    pub actions: [u8; Class::ALL.len()],
    /// What is done to those whose source is denied.
    pub denied: u8,
    /// What is done in place of a rewriting, where the listener takes data without a cookie: pass or drop.
    pub no_cookie: u8,
    /// Not 0 where nothing is done, but counted.
    pub dry_run: u8,
    /// Zero.
    pub reserved: u8,
    /// What a source is cut down to for its limits.
    pub sources: SourceSettings,
    /// How many may come, by [`Class`]. Those of [`Class::Data`] hold for all SYNs whose data would be taken.
    pub limits: [Limit; Class::ALL.len()],
}

/// A rule as it stands in the map.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct PortRule {
    /// What is done.
    pub rule: Rule,
    /// The program's own: the buckets of the port's limits, by [`Class`]; 0 at first.
    pub buckets: [u64; Class::ALL.len()],
}

// SAFETY: `repr(C)`: eight u8, then u64 and pairs of u32: no padding, and any bytes are a rule.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PortRule {}

impl Rule {
    /// Everything passes.
    pub const PASS: Self = Self {
        actions: [0; Class::ALL.len()],
        denied: 0,
        no_cookie: 0,
        dry_run: 0,
        reserved: 0,
        sources: SourceSettings::OFF,
        limits: [Limit {
            source: super::Rate::UNLIMITED,
            port: super::Rate::UNLIMITED,
        }; Class::ALL.len()],
    };
}

/// Which policy is in force. The program reads it at every SYN that has to do with Fast Open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C, align(8))]
pub struct PolicyHead {
    /// 0 for none; else one more than the index of its maps in the maps of maps.
    pub slot: u32,
    /// Not 0 where it has lists.
    pub lists: u32,
}

// SAFETY: `repr(C)` and u32 throughout: no padding, and any bytes are of its type.
#[cfg(feature = "user")]
unsafe impl aya::Pod for PolicyHead {}
