//! From the bytes of a frame to a [`Syn`]: one file per protocol.
//!
//! Only this module knows header layouts. It reads through [`Frame`], so that the same lines run on
//! a packet in the kernel and on a slice on the host.

pub mod ethernet;
pub mod ipv4;
pub mod ipv6;
pub mod options;
pub mod tcp;

use crate::syn::Syn;

/// The bytes of one frame, wherever they live. Every read is checked; none can fail otherwise.
pub trait Frame {
    /// The frame's length in bytes, from the first byte of its Ethernet header.
    fn len(&self) -> usize;

    /// `true` for a frame without a byte.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// The `N` bytes from offset `at`, or `None` where the frame is shorter.
    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]>;

    /// `N` little-endian 64-bit words from offset `at`, or `None` where the frame is shorter.
    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]>;

    /// `value` itself. In the kernel, the verifier then no longer knows anything about it: without
    /// that it follows a loop over options along each of its millions of paths, and gives up.
    fn opaque(&self, value: u64) -> u64 {
        value
    }
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }

    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]> {
        let mut words = [0; N];
        for (i, word) in words.iter_mut().enumerate() {
            *word = u64::from_le_bytes(self.bytes(at + 8 * i)?);
        }
        Some(words)
    }
}

/// Why a frame gave no [`Syn`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotSyn {
    /// It is no TCP segment that opens a connection: nothing to say about it.
    Other,
    /// It may be one, but this parser does not read it: a fragment, an extension header, a VLAN tag,
    /// or a frame shorter than its headers say.
    Unparsed,
}

/// What TCP needs of an IP header.
struct Network {
    /// Offset of the transport header from the frame's first byte.
    transport: usize,
    /// Bytes of the packet from the transport header on, by the IP header's word.
    transport_len: usize,
    version: Version,
}

/// Which IP header it is, and so where its addresses are.
enum Version {
    V4,
    V6,
}

/// Reads `frame` down to its TCP options, if it is a SYN.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Syn, NotSyn> {
    let at = ethernet::HEADER_LEN;
    let network = match ethernet::ether_type(frame)? {
        ethernet::IPV4 => ipv4::parse(frame, at)?,
        ethernet::IPV6 => ipv6::parse(frame, at)?,
        ethernet::VLAN | ethernet::VLAN_SERVICE => return Err(NotSyn::Unparsed),
        _ => return Err(NotSyn::Other),
    };
    let segment = tcp::parse(frame, &network)?;
    let options = segment.options(frame);
    // The addresses come last: in the kernel, nothing then keeps them in registers meanwhile.
    let addresses = match network.version {
        Version::V4 => ipv4::addresses(frame, at)?,
        Version::V6 => ipv6::addresses(frame, at)?,
    };
    Ok(Syn {
        addresses,
        ports: segment.ports,
        data_len: segment.data_len as u32,
        options,
    })
}
