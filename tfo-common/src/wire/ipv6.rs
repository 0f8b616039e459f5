//! IPv6 (RFC 8200): what TCP needs of it. Linux: `ip6_rcv_core`.

use super::{
    addresses::Addresses,
    extensions,
    frame::{Frame, Network, NotSyn, View},
    tcp,
};

/// Bytes of the header, without extension headers.
pub const HEADER_LEN: usize = 40;
const VERSION: usize = 0;
const PAYLOAD_LEN: usize = 4;
/// Offset of the number of the header that follows.
pub const NEXT_HEADER: usize = 6;
/// Offset of the source, behind which the destination follows.
pub(super) const SOURCE: usize = 8;

/// The packet behind the IPv6 header at `at`.
///
/// # Errors
///
/// [`NotSyn::Other`] where it is not TCP; [`NotSyn::Unparsed`] for extension headers that are not passed
/// over, a header that Linux would refuse, or a frame that ends in one.
#[inline(always)]
pub(super) fn parse<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<Network, NotSyn> {
    let header = frame.view::<HEADER_LEN>(at).ok_or(NotSyn::Unparsed)?;
    let next = header.byte(NEXT_HEADER);
    let mut transport = at + HEADER_LEN;
    if next != tcp::PROTOCOL {
        transport = extensions::pass_over(frame, transport, next)?;
    }
    if header.byte(VERSION) >> 4 != 6 {
        return Err(NotSyn::Unparsed);
    }
    Ok(Network {
        transport,
        end: at + total_len(&header, 0),
    })
}

/// The kind of the header behind the IPv6 header at `at`.
///
/// # Errors
///
/// [`NotSyn::Unparsed`] where the frame ends before it is told.
#[inline(always)]
pub(super) fn next_header<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<u8, NotSyn> {
    let header = frame.view::<{ NEXT_HEADER + 1 }>(at);
    header
        .map(|header| header.byte(NEXT_HEADER))
        .ok_or(NotSyn::Unparsed)
}

/// Bytes of the packet with the header at `at` of `view`.
#[inline(always)]
pub(super) fn total_len(view: &impl View, at: usize) -> usize {
    HEADER_LEN + usize::from(view.half(at + PAYLOAD_LEN))
}

/// `true` if TCP follows the header at `at` of `view`.
#[inline(always)]
pub(super) fn is_plain_tcp(view: &impl View, at: usize) -> bool {
    view.byte(at + VERSION) >> 4 == 6 && view.byte(at + NEXT_HEADER) == tcp::PROTOCOL
}

/// Source and destination of the IPv6 header at `at`.
///
/// # Errors
///
/// [`NotSyn::Unparsed`] where the frame ends before them.
#[inline(always)]
pub(super) fn addresses<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<Addresses, NotSyn> {
    match frame.words::<4>(at + SOURCE) {
        Some(words) => Ok(Addresses::V6(words)),
        None => Err(NotSyn::Unparsed),
    }
}
