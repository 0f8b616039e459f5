//! IPv6 (RFC 8200): what TCP needs of it. Linux: `ip6_rcv_core`.

use super::{Frame, Network, NotSyn, Version};
use crate::{cookie::Addresses, wire::tcp};

const HEADER_LEN: usize = 40;
const VERSION: usize = 0;
const PAYLOAD_LEN: usize = 4;
const NEXT_HEADER: usize = 6;
const SOURCE: usize = 8;

/// `true` for a next header behind which TCP may still follow (RFC 8200, section 4).
const fn is_extension(next_header: u8) -> bool {
    matches!(next_header, 0 | 43 | 44 | 51 | 60 | 135)
}

/// The packet behind the IPv6 header at `at`.
///
/// # Errors
///
/// [`NotSyn::Other`] where it is not TCP; [`NotSyn::Unparsed`] for extension headers, a header that
/// Linux would refuse, or a frame that ends before the packet does.
#[inline(always)]
pub(super) fn parse<F: Frame + ?Sized>(frame: &F, at: usize) -> Result<Network, NotSyn> {
    let header: [u8; HEADER_LEN] = frame.bytes(at).ok_or(NotSyn::Unparsed)?;
    if header[NEXT_HEADER] != tcp::PROTOCOL {
        return Err(if is_extension(header[NEXT_HEADER]) {
            NotSyn::Unparsed
        } else {
            NotSyn::Other
        });
    }
    let payload_len = usize::from(u16::from_be_bytes([
        header[PAYLOAD_LEN],
        header[PAYLOAD_LEN + 1],
    ]));
    if header[VERSION] >> 4 != 6 || frame.len() < at + HEADER_LEN + payload_len {
        return Err(NotSyn::Unparsed);
    }
    Ok(Network {
        transport: at + HEADER_LEN,
        transport_len: payload_len,
        version: Version::V6,
    })
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
