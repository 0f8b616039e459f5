//! IPv4 (RFC 791): what TCP needs of it. Linux: `ip_rcv_core`.

use super::{Frame, Network, NotSyn};
use crate::{cookie::Addresses, wire::tcp};

const MIN_HEADER_LEN: usize = 20;
const VERSION_IHL: usize = 0;
const TOTAL_LEN: usize = 2;
const FRAGMENT: usize = 6;
const PROTOCOL: usize = 9;
const SOURCE: usize = 12;

/// The flag "more fragments" and the fragment offset: both 0 in a whole packet.
const FRAGMENT_MASK: u16 = 0x3fff;

/// The packet behind the IPv4 header at `at`.
///
/// # Errors
///
/// [`NotSyn::Other`] where it is not TCP; [`NotSyn::Unparsed`] for a fragment, a header that Linux
/// would refuse, or a frame that ends in it.
#[inline(always)]
pub(super) fn parse<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<Network, NotSyn> {
    let header: [u8; MIN_HEADER_LEN] = frame.bytes(at).ok_or(NotSyn::Unparsed)?;
    if header[PROTOCOL] != tcp::PROTOCOL {
        return Err(NotSyn::Other);
    }
    let header_len = usize::from(header[VERSION_IHL] & 0xf) * 4;
    let total_len = usize::from(u16::from_be_bytes([
        header[TOTAL_LEN],
        header[TOTAL_LEN + 1],
    ]));
    let fragment = u16::from_be_bytes([header[FRAGMENT], header[FRAGMENT + 1]]);
    if header[VERSION_IHL] >> 4 != 4 || header_len < MIN_HEADER_LEN || fragment & FRAGMENT_MASK != 0
    {
        return Err(NotSyn::Unparsed);
    }
    Ok(Network {
        transport: at + header_len,
        end: at + total_len,
    })
}

/// Source and destination of the IPv4 header at `at`.
///
/// # Errors
///
/// [`NotSyn::Unparsed`] where the frame ends before them.
#[inline(always)]
pub(super) fn addresses<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<Addresses, NotSyn> {
    match frame.words::<1>(at + SOURCE) {
        Some([word]) => Ok(Addresses::V4(word)),
        None => Err(NotSyn::Unparsed),
    }
}
