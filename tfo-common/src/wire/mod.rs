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

    /// Copies the `len` bytes from offset `at` to the start of `into`; `false` where the frame is
    /// shorter or `len` is 0 or over [`options::MAX_LEN`].
    fn copy_options(&self, at: usize, len: usize, into: &mut options::Buffer) -> bool;

    /// `N` little-endian 64-bit words from offset `at`, or `None` where the frame is shorter.
    fn words<const N: usize>(&self, at: usize) -> Option<[u64; N]>;
}

impl Frame for [u8] {
    fn len(&self) -> usize {
        <[u8]>::len(self)
    }

    fn bytes<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.get(at..)?.first_chunk().copied()
    }

    fn copy_options(&self, at: usize, len: usize, into: &mut options::Buffer) -> bool {
        if len == 0 || len > options::MAX_LEN {
            return false;
        }
        let Some(from) = self.get(at..).and_then(|rest| rest.get(..len)) else {
            return false;
        };
        into.0[..len].copy_from_slice(from);
        true
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

/// What follows the Ethernet header, as far as TCP needs it.
struct Network {
    /// Offset of the transport header from the frame's first byte.
    transport: usize,
    /// Bytes of the packet from the transport header on, by the IP header's word.
    transport_len: usize,
}

/// Reads `frame` down to its TCP options, if it is a SYN.
///
/// # Errors
///
/// [`NotSyn`] for every other frame.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F) -> Result<Syn, NotSyn> {
    match ethernet::ether_type(frame)? {
        ethernet::IPV4 => {
            let network = ipv4::parse(frame, ethernet::HEADER_LEN)?;
            let segment = tcp::parse(frame, &network)?;
            let addresses = ipv4::addresses(frame, ethernet::HEADER_LEN)?;
            segment.into_syn(frame, addresses)
        }
        ethernet::IPV6 => {
            let network = ipv6::parse(frame, ethernet::HEADER_LEN)?;
            let segment = tcp::parse(frame, &network)?;
            let addresses = ipv6::addresses(frame, ethernet::HEADER_LEN)?;
            segment.into_syn(frame, addresses)
        }
        ethernet::VLAN | ethernet::VLAN_SERVICE => Err(NotSyn::Unparsed),
        _ => Err(NotSyn::Other),
    }
}
