//! The tunnels that an interface reads through, and from which sources: what the controller tells the programs.

use crate::wire::addresses::Address;

/// Most rules with a UDP port.
pub const MAX_PORTS: usize = 4;
/// Most prefixes of outer sources.
pub const MAX_SOURCES: usize = 8;

/// What is read through, as the programs ask for it: the values are constants to the verifier, which removes the code for what
/// is off.
pub trait Tunnels: Copy {
    /// The bits of [`Decap::protocols`]; 0 reads through nothing.
    fn protocols(self) -> u32;

    /// An entry of [`Decap::ports`], by an index below [`MAX_PORTS`].
    fn port(self, index: usize) -> u32;
}

/// Reads through nothing.
#[derive(Clone, Copy, Debug)]
pub struct NoTunnels;

impl Tunnels for NoTunnels {
    #[inline(always)]
    fn protocols(self) -> u32 {
        0
    }

    #[inline(always)]
    fn port(self, _: usize) -> u32 {
        0
    }
}

/// A prefix of outer sources.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OuterSource {
    /// The first [`Address`].
    pub address: [u64; 2],
    /// Mask of its bits.
    pub mask: [u64; 2],
}

impl OuterSource {
    /// Holds no address: an address under an empty mask is 0.
    pub const NONE: Self = Self {
        address: [u64::MAX; 2],
        mask: [0; 2],
    };

    /// The prefix of this many bits of an [`Address`], which for IPv4 are 96 more than the address's own.
    pub fn new(address: Address, bits: u8) -> Self {
        let ones = u128::MAX
            .checked_shl(128 - u32::from(bits.min(128)))
            .unwrap_or(0);
        let mask = u128::from_le_bytes(ones.to_be_bytes());
        let mask = [mask as u64, (mask >> 64) as u64];
        let Address([a, b]) = address;
        Self {
            address: [a & mask[0], b & mask[1]],
            mask,
        }
    }

    /// `true` if the prefix holds `address`.
    #[inline(always)]
    pub const fn holds(&self, address: &Address) -> bool {
        let Address([a, b]) = *address;
        a & self.mask[0] == self.address[0] && b & self.mask[1] == self.address[1]
    }
}

/// The tunnels that an interface reads through, and whose packets they have to be: a constant of the programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Decap {
    /// [`Self::IPIP`], [`Self::GRE`], [`Self::UDP`]; 0 where the interface reads through nothing.
    pub protocols: u32,
    /// UDP ports, with [`Self::GUE`] where GUE comes to it, else it is FOU; 0 for none.
    pub ports: [u32; MAX_PORTS],
    /// Aligns what follows.
    pub padding: u32,
    /// Prefixes of the sources of outer packets.
    pub sources: [OuterSource; MAX_SOURCES],
}

// SAFETY: `repr(C)`, and u32 and u64 without padding between: any bytes are of its type.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Decap {}

impl Decap {
    /// Protocols 4 and 41.
    pub const IPIP: u32 = 1;
    /// Protocol 47.
    pub const GRE: u32 = 1 << 1;
    /// One of the ports.
    pub const UDP: u32 = 1 << 2;
    /// Bit of a port to which GUE comes.
    pub const GUE: u32 = 1 << 16;
    /// Nothing is read through.
    pub const OFF: Self = Self {
        protocols: 0,
        ports: [0; MAX_PORTS],
        padding: 0,
        sources: [OuterSource::NONE; MAX_SOURCES],
    };
}

impl Tunnels for &Decap {
    fn protocols(self) -> u32 {
        self.protocols
    }

    fn port(self, index: usize) -> u32 {
        self.ports.get(index).copied().unwrap_or(0)
    }
}
