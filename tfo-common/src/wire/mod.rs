//! From the bytes of a frame to a [`syn::Syn`], an [`ack::Ack`] or an [`issued::Issued`], and back to a
//! [`syn_ack::SynAck`]: one file per protocol.
//!
//! Only this module knows header layouts. It reads through [`Frame`], so that the same lines run on a packet in the
//! kernel and on a slice on the host. It knows nothing of keys, sockets or policies.

pub mod ack;
pub mod addresses;
pub mod checksum;
pub mod ethernet;
pub mod extensions;
pub mod flow;
mod frame;
pub mod ipv4;
pub mod ipv6;
pub mod issued;
pub mod options;
pub mod rewrite;
pub mod syn;
pub mod syn_ack;
pub mod tcp;

pub use frame::{Frame, Link, NotSyn, View};

use self::{
    addresses::Addresses,
    frame::{Network, Version},
};

/// A packet with TCP right behind the fixed IP header, behind an Ethernet header without VLAN tags.
#[derive(Clone, Copy)]
pub struct Plain {
    version: Version,
    /// Bytes of the packet.
    len: usize,
}

impl Plain {
    /// As [`locate`], with what is known already.
    #[inline(always)]
    fn locate<F: Frame + ?Sized>(self, frame: &F) -> (usize, Version, Network) {
        // As unknown to the verifier as from `locate`, so that it goes on once.
        let at = (frame.barrier_var(ethernet::HEADER_LEN as u64) & ethernet::LEN_MASK) as usize;
        let header_len = match self.version {
            Version::V4 => ipv4::MIN_HEADER_LEN,
            Version::V6 => ipv6::HEADER_LEN,
        };
        let network = Network {
            transport: at + header_len,
            end: at + self.len,
        };
        (at, self.version, network)
    }
}

/// Offset and version of the network header, and the packet's bounds.
#[inline(always)]
fn locate<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<(usize, Version, Network), NotSyn> {
    let (at, version) = match link {
        Link::Ethernet => ethernet::network(frame)?,
        Link::None => (0, bare(frame)?),
    };
    // The verifier then goes on once, not once for each link header.
    let at = (frame.barrier_var(at as u64) & ethernet::LEN_MASK) as usize;
    let network = match version {
        Version::V4 => ipv4::parse(frame, at)?,
        Version::V6 => ipv6::parse(frame, at)?,
    };
    Ok((at, version, network))
}

/// Hides the version and the offset of the transport header from the verifier, which then goes on once, not once for each version
/// and each sum of header lengths.
#[inline(always)]
fn hidden<F: Frame + ?Sized>(frame: &F, version: Version, transport: usize) -> (Version, usize) {
    /// Mask of the offset: IPv6's extension headers lead furthest.
    const TRANSPORT: u64 = extensions::OFFSET_MASK;
    const IS_V6: u64 = TRANSPORT + 1;
    let version = match version {
        Version::V4 => 0,
        Version::V6 => IS_V6,
    };
    let both = frame.barrier_var(transport as u64 | version);
    let version = if both & IS_V6 == 0 {
        Version::V4
    } else {
        Version::V6
    };
    (version, (both & TRANSPORT) as usize)
}

/// The addresses in the network header at an offset.
#[inline(always)]
fn network_addresses<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    version: &Version,
) -> Result<Addresses, NotSyn> {
    match version {
        Version::V4 => ipv4::addresses(frame, at),
        Version::V6 => ipv6::addresses(frame, at),
    }
}

/// The version of the packet at the frame's first byte.
#[inline(always)]
fn bare<F: Frame + ?Sized>(frame: &F) -> Result<Version, NotSyn> {
    let [first]: [u8; 1] = frame.bytes(0).ok_or(NotSyn::Unparsed)?;
    match first >> 4 {
        4 => Ok(Version::V4),
        6 => Ok(Version::V6),
        _ => Err(NotSyn::Other),
    }
}
