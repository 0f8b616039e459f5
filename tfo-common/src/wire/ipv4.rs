//! IPv4 (RFC 791): what TCP needs of it. Linux: `ip_rcv_core`.

use super::{
    addresses::Addresses,
    checksum,
    frame::{Frame, Network, NotSyn, View},
    tcp,
};

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
const VERSION_IHL: usize = 0;
const TOTAL_LEN: usize = 2;
const FRAGMENT: usize = 6;
const PROTOCOL: usize = 9;
const SOURCE: usize = 12;

/// Version 4, and a header of five words.
const WITHOUT_OPTIONS: u8 = 0x45;
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
        end: at + total_len(&header, 0),
    })
}

/// Bytes of the packet with the header at `at` of `view`.
#[inline(always)]
pub(super) fn total_len(view: &impl View, at: usize) -> usize {
    view.half(at + TOTAL_LEN).into()
}

/// `true` if TCP follows the header at `at` of `view`, which has no options, in a whole packet.
#[inline(always)]
pub(super) fn is_plain_tcp(view: &impl View, at: usize) -> bool {
    view.byte(at + VERSION_IHL) == WITHOUT_OPTIONS
        && view.byte(at + PROTOCOL) == tcp::PROTOCOL
        && view.half(at + FRAGMENT) & FRAGMENT_MASK == 0
}

/// `false` if the checksum of the IPv4 header at `at` is wrong (`ip_rcv_core`). That of a header with options is not
/// computed.
#[inline(always)]
pub fn is_intact<F: Frame + ?Sized>(frame: &F, at: usize) -> bool {
    let Some(header) = frame.view::<MIN_HEADER_LEN>(at) else {
        return false;
    };
    if header.byte(VERSION_IHL) != WITHOUT_OPTIONS {
        return true;
    }
    let sum = |word: u64| (word & 0xffff_ffff) + (word >> 32);
    let last = u64::from(header.half(16).swap_bytes()) + u64::from(header.half(18).swap_bytes());
    checksum::fold_words(sum(header.word(0)) + sum(header.word(8)) + last) == u16::MAX
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wrong_bit_is_found() {
        // RFC 1071 sums of a header that Linux sent.
        let header = [
            0x45, 0, 0, 0x3c, 0x1c, 0x46, 0x40, 0, 0x40, 6, 0xb1, 0xe6, 0xac, 0x10, 0x0a, 0x63,
            0xac, 0x10, 0x0a, 0x0c,
        ];
        assert!(is_intact(&header[..], 0));
        for bit in 0..8 * header.len() {
            let mut wrong = header;
            wrong[bit / 8] ^= 1 << (bit % 8);
            let options = wrong[0] & 0xf != 5 || wrong[0] >> 4 != 4;
            assert!(options || !is_intact(&wrong[..], 0), "{bit}");
        }
        assert!(!is_intact(&header[..19], 0));
    }
}
