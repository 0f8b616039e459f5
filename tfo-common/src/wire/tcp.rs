//! TCP (RFC 9293): the fixed header of a segment that opens a connection. Linux: `tcp_v4_rcv`,
//! `tcp_rcv_state_process`.

use super::frame::{Frame, Network, NotSyn, View as _};

/// TCP's protocol number.
pub const PROTOCOL: u8 = 6;

/// Bytes of a header without options.
pub const MIN_HEADER_LEN: usize = 20;
/// Offset of the checksum in the header.
pub const CHECKSUM: usize = 16;
/// Offset of the byte whose upper half is the header's length in words; the one behind it has the flags.
pub const DATA_OFFSET: usize = 12;
pub(super) const FLAGS: usize = 13;

/// Mask of a number of bytes of data.
const DATA_MASK: u64 = 0xffff;

const FIN: u8 = 0x01;
pub(super) const SYN: u8 = 0x02;
/// The flag of a reset, in the header's byte of flags.
pub const RST: u8 = 0x04;
pub(super) const ACK: u8 = 0x10;

/// `true` if `number` follows `other` modulo 2^32. RFC 9293 section 3.4; Linux: `after`.
#[inline(always)]
pub(crate) const fn after(number: u32, other: u32) -> bool {
    other.wrapping_sub(number).cast_signed() < 0
}

/// `true` if a segment with these flags opens a connection.
#[inline(always)]
pub(super) const fn is_syn(flags: u8) -> bool {
    flags & (FIN | SYN | RST | ACK) == SYN
}

/// A segment that opens a connection; its options are not read yet.
pub(super) struct Segment {
    pub(super) ports: u32,
    pub(super) sequence: u32,
    /// Bytes of data behind the header.
    pub(super) data_len: usize,
    pub(super) options_len: usize,
}

/// The SYN behind `network`. PSH, URG, ECE and CWR do not matter; a listener ignores SYN+FIN and
/// SYN+RST and answers SYN+ACK with a reset.
///
/// # Errors
///
/// [`NotSyn::Other`] for any other segment, [`NotSyn::Unparsed`] for one with a header that Linux
/// would refuse, or with a frame that ends before the packet does.
#[inline(always)]
pub(super) fn parse<F: Frame + ?Sized>(frame: &F, network: &Network) -> Result<Segment, NotSyn> {
    let header = frame
        .view::<MIN_HEADER_LEN>(network.transport)
        .ok_or(NotSyn::Unparsed)?;
    if !is_syn(header.byte(FLAGS)) {
        return Err(NotSyn::Other);
    }
    // Only a SYN's lengths are checked: every other segment has returned by now.
    let header_len = usize::from(header.byte(DATA_OFFSET) >> 4) * 4;
    let data = network.transport + header_len;
    if header_len < MIN_HEADER_LEN || network.end < data {
        return Err(NotSyn::Unparsed);
    }
    // The whole length is a helper call: it is asked for only where it can matter.
    if frame.len() < network.end && (frame.len() < data || frame.whole_len() < network.end) {
        return Err(NotSyn::Unparsed);
    }
    let word = header.word(0);
    Ok(Segment {
        ports: word as u32,
        sequence: ((word >> 32) as u32).swap_bytes(),
        options_len: header_len - MIN_HEADER_LEN,
        // The verifier then goes on once for all lengths.
        data_len: (frame.barrier_var((network.end - data) as u64) & DATA_MASK) as usize,
    })
}

impl Segment {
    /// Bytes of the header, with its options.
    #[inline(always)]
    pub(super) const fn header_len(&self) -> usize {
        MIN_HEADER_LEN + self.options_len
    }
}
