//! IPv4 (RFC 791): what TCP needs of it. Linux: `ip_rcv_core`.

use super::{Frame, Network, NotSyn, View as _, addresses::Addresses, tcp};

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
    let header = frame.view::<MIN_HEADER_LEN>(at).ok_or(NotSyn::Unparsed)?;
    if header.byte(PROTOCOL) != tcp::PROTOCOL {
        return Err(NotSyn::Other);
    }
    let version_ihl = header.byte(VERSION_IHL);
    let header_len = usize::from(version_ihl & 0xf) * 4;
    if version_ihl >> 4 != 4
        || header_len < MIN_HEADER_LEN
        || header.half(FRAGMENT) & FRAGMENT_MASK != 0
    {
        return Err(NotSyn::Unparsed);
    }
    Ok(Network {
        transport: at + header_len,
        end: at + usize::from(header.half(TOTAL_LEN)),
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
