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
pub mod tunnel;

pub use frame::{Frame, Link, NotSyn, View};

use self::{
    addresses::Addresses,
    frame::{Network, Version, hidden},
    tunnel::Tunnels,
};

/// A packet with TCP right behind the fixed IP header, behind an Ethernet header without VLAN tags.
#[derive(Clone, Copy)]
pub struct Plain {
    version: Version,
    /// Bytes of the packet.
    len: usize,
}

/// Where the packet of a frame is.
struct Located {
    /// Offset of the first network header: that of the outer one, where the packet came in a tunnel.
    outer: usize,
    /// Offset of the packet's network header.
    at: usize,
    version: Version,
    network: Network,
}

impl Plain {
    /// As [`locate`], with what is known already.
    #[inline(always)]
    fn locate<F: Frame + ?Sized>(self, frame: &F, tunnels: impl Tunnels) -> Located {
        // As unknown to the verifier as from `locate`, so that it goes on once.
        let outer = (frame.barrier_var(ethernet::HEADER_LEN as u64) & ethernet::LEN_MASK) as usize;
        let (at, version) = through(frame, outer, self.version, tunnels);
        let header_len = match version {
            Version::V4 => ipv4::MIN_HEADER_LEN,
            Version::V6 => ipv6::HEADER_LEN,
        };
        let network = Network {
            transport: at + header_len,
            end: at + self.len,
        };
        Located {
            outer,
            at,
            version,
            network,
        }
    }
}

/// The packet of `frame`: the inner one, where it came in one of `tunnels`.
#[inline(always)]
fn locate<F: Frame + ?Sized>(
    frame: &F,
    link: Link,
    tunnels: impl Tunnels,
) -> Result<Located, NotSyn> {
    let (at, version) = match link {
        Link::Ethernet => ethernet::network(frame)?,
        Link::None => (0, bare(frame)?),
    };
    // The verifier then goes on once, not once for each link header.
    let outer = (frame.barrier_var(at as u64) & ethernet::LEN_MASK) as usize;
    let inner = if tunnels.protocols() == 0 {
        None
    } else {
        tunnel::inner(frame, outer, &version, tunnels)?
    };
    let (at, version) = match inner {
        Some((at, version)) => through(frame, at, version, tunnels),
        None => through(frame, outer, version, tunnels),
    };
    let network = match version {
        Version::V4 => ipv4::parse(frame, at)?,
        Version::V6 => ipv6::parse(frame, at)?,
    };
    Ok(Located {
        outer,
        at,
        version,
        network,
    })
}

/// Has the verifier go on once, whether the packet came in a tunnel or not.
#[inline(always)]
fn through<F: Frame + ?Sized>(
    frame: &F,
    at: usize,
    version: Version,
    tunnels: impl Tunnels,
) -> (usize, Version) {
    if tunnels.protocols() == 0 {
        (at, version)
    } else {
        hidden::<_, { tunnel::OFFSET_MASK }>(frame, at, version)
    }
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
