//! IPv4 (RFC 791): what TCP needs of it. Linux: `ip_rcv_core`.

pub(super) mod options;

use super::{
    addresses::Addresses,
    checksum,
    frame::{Frame, Network, NotSyn, View},
    tcp,
};

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Bytes of the longest header.
const MAX_HEADER_LEN: usize = 60;
const VERSION_IHL: usize = 0;
/// Offset of the type of service, with the ECN field.
pub(super) const TOS: usize = 1;
const TOTAL_LEN: usize = 2;
/// Offset of the flags and the fragment offset.
pub(super) const FRAGMENT: usize = 6;
/// Offset of the payload's protocol.
pub const PROTOCOL: usize = 9;
/// Offset of the source, behind which the destination follows.
pub(super) const SOURCE: usize = 12;

/// Version 4, and a header of five words.
const WITHOUT_OPTIONS: u8 = 0x45;
/// The flag "more fragments" and the fragment offset: both 0 in a whole packet.
pub(super) const FRAGMENT_MASK: u16 = 0x3fff;

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
    let header_len = header_len(&header).ok_or(NotSyn::Unparsed)?;
    if header.half(FRAGMENT) & FRAGMENT_MASK != 0 {
        return Err(NotSyn::Unparsed);
    }
    Ok(Network {
        transport: at + header_len,
        end: at + total_len(&header, 0),
    })
}

/// Bytes of the header at the start of `view`; `None` where it is no IPv4 header.
#[inline(always)]
pub(super) fn header_len(view: &impl View) -> Option<usize> {
    let version_ihl = view.byte(VERSION_IHL);
    let len = usize::from(version_ihl & 0xf) * 4;
    (version_ihl >> 4 == 4 && len >= MIN_HEADER_LEN).then_some(len)
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

/// `false` if the checksum of the IPv4 header at `at` is wrong (`ip_rcv_core`).
#[inline(always)]
pub fn is_intact<F: Frame + ?Sized>(frame: &F, at: usize) -> bool {
    let Some(header) = frame.view::<MIN_HEADER_LEN>(at) else {
        return false;
    };
    let sum = |word: u64| (word & 0xffff_ffff) + (word >> 32);
    let last = u64::from(header.half(16).swap_bytes()) + u64::from(header.half(18).swap_bytes());
    let mut total = sum(header.word(0)) + sum(header.word(8)) + last;
    let version_ihl = header.byte(VERSION_IHL);
    if version_ihl != WITHOUT_OPTIONS {
        let Some(options) = sum_of_options(frame, at, version_ihl) else {
            return false;
        };
        total += options;
    }
    checksum::fold_words(total) == u16::MAX
}

/// The sum of the options of the header at `at` with these version and length; `None` where the frame ends in them.
#[inline(always)]
fn sum_of_options<F: Frame + ?Sized>(frame: &F, at: usize, version_ihl: u8) -> Option<u64> {
    const WORD: usize = size_of::<u32>();
    // Hidden, as each sum below, so that the verifier follows what comes behind the loop once.
    let words = frame.barrier_var((version_ihl & 0xf).into());
    let mut sum = 0;
    for word in MIN_HEADER_LEN / WORD..MAX_HEADER_LEN / WORD {
        if word as u64 >= words {
            break;
        }
        let option = frame.view::<WORD>(at + WORD * word)?;
        let halves = [option.half(0), option.half(2)].map(|half| u64::from(half.swap_bytes()));
        sum = frame.barrier_var(sum + halves[0] + halves[1]);
    }
    Some(sum)
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
    use std::vec::Vec;

    use super::*;

    /// A header that Linux sent.
    const HEADER: [u8; MIN_HEADER_LEN] = [
        0x45, 0, 0, 0x3c, 0x1c, 0x46, 0x40, 0, 0x40, 6, 0xb1, 0xe6, 0xac, 0x10, 0x0a, 0x63, 0xac,
        0x10, 0x0a, 0x0c,
    ];

    /// With so many words of options, and the checksum (RFC 1071) of the whole.
    fn with_options(words: u8) -> Vec<u8> {
        let mut header = HEADER.to_vec();
        header[0] += words;
        header.extend((0..4 * words).map(|at| at.wrapping_mul(37)));
        header[10..12].fill(0);
        let halves = header
            .chunks(2)
            .map(|half| u32::from(half[0]) << 8 | u32::from(half[1]));
        let sum = !checksum::fold(halves.sum());
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        header
    }

    #[test]
    fn one_wrong_bit_is_found() {
        assert_eq!(with_options(0), HEADER);
        for words in 0..=10 {
            let header = with_options(words);
            assert!(is_intact(&header[..], 0), "{words}");
            for bit in 0..8 * header.len() {
                let mut wrong = header.clone();
                wrong[bit / 8] ^= 1 << (bit % 8);
                // A wrong length takes in zeros, which add nothing, or leaves words out.
                wrong.resize(MAX_HEADER_LEN, 0);
                assert!(!is_intact(&wrong[..], 0), "{words}: {bit}");
            }
            assert!(!is_intact(&header[..header.len() - 1], 0), "{words}");
        }
    }
}
