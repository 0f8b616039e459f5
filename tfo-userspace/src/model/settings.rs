//! Settings of an attached interface: mode, mirror, counting by source, tunnels.

use std::fmt;

use tfo_common::{abi::DEFAULT_SOURCES, wire::addresses::PrefixMask};

use super::decap::Decap;

/// The source of a SYN's outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mirror {
    /// From the kernel's sockets: counts exactly as the kernel does.
    #[default]
    Exact,
    /// From the packet and the keys alone.
    Packet,
}

impl fmt::Display for Mirror {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Exact => "exact",
            Self::Packet => "packet",
        })
    }
}

/// Counting by source prefix.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Capacity in prefixes; the least recently used is evicted. 0 turns the counting off, at no cost per
    /// packet.
    pub max: u32,
    /// Bits of an IPv4 source's prefix, at most 32.
    pub v4: u8,
    /// Bits of an IPv6 source's prefix, at most 128.
    pub v6: u8,
}

impl Default for SourceLimits {
    fn default() -> Self {
        Self {
            max: DEFAULT_SOURCES,
            v4: 32,
            v6: 64,
        }
    }
}

impl SourceLimits {
    /// The constant `SOURCE_MASK` of the programs.
    pub(crate) fn constant(self) -> PrefixMask {
        match self.max {
            0 => PrefixMask::OFF,
            _ => PrefixMask::new(self.v4, self.v6),
        }
    }
}

/// Settings of the programs, fixed when they are loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// Exact or packet-level counting.
    pub mirror: Mirror,
    /// Counting by source prefix.
    pub sources: SourceLimits,
    /// The tunnels that are read through.
    pub decap: Decap,
}

impl From<Mirror> for Settings {
    fn from(mirror: Mirror) -> Self {
        Self {
            mirror,
            ..Self::default()
        }
    }
}

/// The mode to attach in.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeChoice {
    /// The cheapest that can do what is configured: TC to observe, native XDP to drop and to answer where it takes nothing
    /// from the interface's traffic. Follows a change of policy and guard.
    #[default]
    Auto,
    /// Native XDP alone.
    Native,
    /// Generic XDP alone.
    Generic,
    /// TCX or clsact, next to other programs.
    Tc,
}

impl From<AttachMode> for ModeChoice {
    fn from(mode: AttachMode) -> Self {
        match mode {
            AttachMode::Native | AttachMode::Offloaded => Self::Native,
            AttachMode::Generic => Self::Generic,
            AttachMode::Tc => Self::Tc,
        }
    }
}

/// The mode in which a program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// XDP in the driver.
    Native,
    /// XDP in the stack, after the driver has allocated a socket buffer.
    Generic,
    /// XDP in the device.
    Offloaded,
    /// A TC program at ingress: TCX, or clsact before Linux 6.6.
    Tc,
}

impl fmt::Display for AttachMode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Native => "native",
            Self::Generic => "generic",
            Self::Offloaded => "offloaded",
            Self::Tc => "tc",
        })
    }
}
