//! What the program is told before it is loaded.

use std::fmt;

use tfo_common::{maps::DEFAULT_SOURCES, sources::SourceSettings};

/// How closely the data path follows the kernel.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mirror {
    /// It asks the kernel's sockets what a SYN will meet, and counts as the kernel will.
    #[default]
    Exact,
    /// The packet and the keys decide alone.
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

/// How SYNs are counted by source.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceLimits {
    /// Most prefixes that are kept; the one that was not seen for longest makes room. 0 for none at
    /// all, which costs nothing.
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
    /// The program's constant.
    pub(crate) fn constant(self) -> SourceSettings {
        match self.max {
            0 => SourceSettings::OFF,
            _ => SourceSettings::new(self.v4, self.v6),
        }
    }
}

/// All of it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Settings {
    /// How closely it follows the kernel.
    pub mirror: Mirror,
    /// How it counts by source.
    pub sources: SourceLimits,
}

impl From<Mirror> for Settings {
    fn from(mirror: Mirror) -> Self {
        Self {
            mirror,
            ..Self::default()
        }
    }
}

/// How the program is to run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum ModeChoice {
    /// In the driver if it can, else in the stack, else in traffic control.
    #[default]
    Auto,
    /// In the driver, or not at all.
    Native,
    /// In the stack.
    Generic,
    /// In traffic control, beside any other programs.
    Tc,
}

/// How the program runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum AttachMode {
    /// In the driver.
    Native,
    /// In the stack, after the packet has become a socket buffer.
    Generic,
    /// In the device.
    Offloaded,
    /// Not XDP: in traffic control, after the stack has taken the packet.
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
