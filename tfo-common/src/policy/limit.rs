//! Limits of a port's SYNs, by class and scope.

use super::class::Class;
use crate::{rate::Rate, wire::addresses::Address};

/// The SYNs that share a limit.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Scope {
    /// Those of one source prefix.
    Source,
    /// Those at one port; under the default rule, at all ports without a rule.
    Port,
}

/// The limits of one class.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Limit {
    /// Per source prefix.
    pub source: Rate,
    /// Of all sources together.
    pub port: Rate,
}

/// Key of a source's bucket in the map `POLICY_LIMITS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct LimitKey {
    /// The source prefix.
    pub source: Address,
    /// The port; the class's number from bit 16 on.
    pub port_and_class: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a key.
#[cfg(feature = "user")]
unsafe impl aya::Pod for LimitKey {}

impl LimitKey {
    /// The key for SYNs of `class` from `source` to `port`.
    #[inline(always)]
    pub const fn new(source: Address, port: u16, class: Class) -> Self {
        Self {
            source,
            port_and_class: (class as u64) << 16 | port as u64,
        }
    }
}
