//! From the bytes of a frame to a [`Syn`]: one file per protocol.
//!
//! Only this module knows header layouts. It reads through [`Frame`], so that the same lines run on
//! a packet in the kernel and on a slice on the host.

pub mod ack;
pub mod answer;
pub mod checksum;
pub mod ethernet;
pub mod extensions;
pub mod ipv4;
pub mod ipv6;
pub mod offer;
pub mod options;
pub mod rewrite;
pub mod signature;
pub mod tcp;

use crate::{
    cookie::Addresses,
    syn::{Layout, Syn},
};

/// The bytes of one frame, wherever they live. Every read is checked; none can fail otherwise.
pub trait Frame {
    /// How many of the frame's bytes can be read, from its first on.
    fn len(&self) -> usize;

    /// How many bytes the frame has. Those that a driver has put into further buffers cannot be read.
    fn whole_len(&self) -> usize {
        self.len()
    }

    /// `true` for a frame without a byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `N` bytes from offset `at`, or `None` where the frame is shorter.
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// The `N` bytes from offset `at`, to read fields from, or `None` where the frame is shorter.
    fn view<const N: usize>(&self, at: usize) -> Option<impl View>;

    /// `N` little-endian 64-bit words from offset `at`, or `None` where the frame is shorter.
    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]>;

    /// `value` itself. In the kernel, the verifier then no longer knows anything about it: without
    /// that it follows a loop over options along each of its millions of paths, and gives up.
    fn opaque(&self, value: u64) -> u64 {
        value
    }
}

/// Bytes that are known to be there. A field that does not lie within them is 0.
pub trait View {
    /// The byte at an offset.
    fn byte(&self, at: usize) -> u8;

    /// The big-endian number of 16 bits at an offset.
    fn half(&self, at: usize) -> u16;

    /// The little-endian number of 64 bits at an offset.
    fn word(&self, at: usize) -> u64;
}

impl<const N: usize> View for &[u8; N] {
    fn byte(&self, at: usize) -> u8 {
        self.get(at).copied().unwrap_or(0)
    }

    fn half(&self, at: usize) -> u16 {
        self.bytes(at).map_or(0, u16::from_be_bytes)
    }

    fn word(&self, at: usize) -> u64 {
        self.bytes(at).map_or(0, u64::from_le_bytes)
    }
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }

    fn view<const N: usize>(&self, at: usize) -> Option<impl View> {
        self.get(at..)?.first_chunk::<N>()
    }

    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (i, word) in words.iter_mut().enumerate() {
            *word = u64::from_le_bytes(self.bytes(at + 8 * i)?);
        }
        Some(words)
    }
}

/// What stands in front of a frame's network header.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Link {
    /// An Ethernet header, with or without VLAN tags.
    Ethernet,
    /// Nothing: the device carries bare packets, as a TUN device does.
    None,
}

/// Why a frame gave no [`Syn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSyn {
    /// It is no TCP segment that opens a connection: nothing to say about it.
    Other,
    /// It may be one, but this parser does not read it: a fragment, which the kernel puts together
    /// only later; more VLAN tags or extension headers than are followed, or one that is not; headers
    /// that Linux would refuse; or a frame shorter than its headers say.
    Unparsed,
}

/// What TCP needs of an IP header.
struct Network {
    /// Offset of the transport header from the frame's first byte.
    transport: usize,
    /// Offset of the packet's end, by the IP header's word.
    end: usize,
}

/// Which IP header it is, and so where its addresses are.
enum Version {
    V4,
    V6,
}

/// Reads `frame`, which starts with an Ethernet header, down to its TCP options, if it is a SYN.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Syn, NotSyn> {
    parse_behind(frame, Link::Ethernet)
}

/// Reads `frame`, which starts as `link` says, down to its TCP options, if it is a SYN.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse_behind<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<Syn, NotSyn> {
    let (at, version, network) = locate(frame, link)?;
    let segment = tcp::parse(frame, &network)?;
    // In the kernel, the verifier then goes on once, not once for each sum of header lengths.
    let at = (frame.opaque(at as u64) & ethernet::LEN_MASK) as usize;
    let header_len = segment.header_len() as u64;
    let layout = frame.opaque(network.transport as u64 | header_len << u16::BITS);
    let (options, option) = segment.options(frame);
    // The addresses come last: in the kernel, nothing then keeps them in registers meanwhile.
    let addresses = network_addresses(frame, at, &version)?;
    Ok(Syn {
        addresses,
        ports: segment.ports,
        sequence: segment.sequence,
        data_len: segment.data_len as u32,
        options,
        layout: Layout {
            network: at as u8,
            tcp: layout as u16,
            header_len: (layout >> u16::BITS) as u8,
            option,
        },
    })
}

/// The network header: its offset, which it is, and what TCP needs of it.
#[inline(always)]
fn locate<F: Frame + ?Sized>(frame: &F, link: Link) -> Result<(usize, Version, Network), NotSyn> {
    let (at, version) = match link {
        Link::Ethernet => ethernet::network(frame)?,
        Link::None => (0, bare(frame)?),
    };
    let network = match version {
        Version::V4 => ipv4::parse(frame, at)?,
        Version::V6 => ipv6::parse(frame, at)?,
    };
    Ok((at, version, network))
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

/// What the packet at the frame's first byte is, by its version.
#[inline(always)]
fn bare<F: Frame + ?Sized>(frame: &F) -> Result<Version, NotSyn> {
    let [first]: [u8; 1] = frame.bytes(0).ok_or(NotSyn::Unparsed)?;
    match first >> 4 {
        4 => Ok(Version::V4),
        6 => Ok(Version::V6),
        _ => Err(NotSyn::Other),
    }
}
