//! The options in hop-by-hop and destination headers (RFC 8200, section 4.2): whether a host takes a packet with them. Linux:
//! `ip6_parse_tlv`.
//!
//! Not judged: CALIPSO, which the kernel holds against labels of its own.

use super::{DESTINATION, FRAGMENT, Frame, HOP_BY_HOP, NotSyn, OFFSET_MASK, UNIT, told_length};

const PAD_1: u8 = 0;
const PAD_N: u8 = 1;
const ROUTER_ALERT: u8 = 5;
const IOAM: u8 = 49;

/// Bytes of kind and length, of an option and of a header.
const HEADER_LEN: u64 = 2;
/// The bits of an option's kind that say whether a host that does not know it discards the packet.
const DISCARDS: u8 = 0xc0;
/// Most bytes of padding in one place.
const MAX_PADDING: u64 = 7;
/// Most options in a header but padding: the default of `max_hbh_opts_number` and `max_dst_opts_number`.
const MAX_OPTIONS: u64 = 8;

/// Most headers and options, padding among them, that are read in a packet.
pub const MAX_READ: usize = 32;

/// What was read of a header's options.
struct Options {
    /// Bytes that are left of them; 0 between headers.
    left: u64,
    /// Bytes of padding right before.
    padding: u64,
    /// Options but padding.
    count: u64,
    /// They are hop-by-hop options: 1, else 0.
    hop_by_hop: u64,
}

/// Reads the options of the extension headers between the offsets `start` and `end` of `frame`, of which the first is a
/// `first`. They have been passed over, and a TCP header follows.
///
/// # Errors
///
/// [`NotSyn::Unparsed`] where Linux drops the packet: an option is malformed, says so to hosts that do not know it, or is one too
/// many; and where there are more than [`MAX_READ`].
#[inline(always)]
pub(in super::super) fn check<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    end: usize,
    first: u8,
) -> Result<(), NotSyn> {
    let (mut at, mut kind) = (start as u64, u64::from(first));
    // Once for all lengths.
    let end = (frame.barrier_var(end as u64) & OFFSET_MASK) as usize;
    let mut options = Options {
        left: 0,
        padding: 0,
        count: 0,
        hop_by_hop: 0,
    };
    for _ in 0..=MAX_READ {
        // In the kernel, the verifier then takes every round for the one before.
        at = frame.barrier_var(at) & OFFSET_MASK;
        kind = frame.barrier_var(kind) & 0xff;
        options.barrier_var(frame);
        if at as usize >= end {
            return Ok(());
        }
        let [word] = frame.words(at as usize).ok_or(NotSyn::Unparsed)?;
        at += if options.left == 0 {
            let len = options.begin(kind as u8, word);
            kind = word & 0xff;
            len
        } else {
            let aligned = (at - start as u64).is_multiple_of(4);
            options.read(word, aligned).ok_or(NotSyn::Unparsed)?
        };
    }
    Err(NotSyn::Unparsed)
}

impl Options {
    #[inline(always)]
    fn barrier_var<F: Frame + ?Sized>(&mut self, frame: &F) {
        self.left = frame.barrier_var(self.left);
        self.padding = frame.barrier_var(self.padding);
        self.count = frame.barrier_var(self.count);
        self.hop_by_hop = frame.barrier_var(self.hop_by_hop);
    }

    /// Begins a header of this kind. Gives the bytes until its first option, or those of a header without options.
    #[inline(always)]
    fn begin(&mut self, kind: u8, header: u64) -> u64 {
        let len = told_length(header);
        match kind {
            HOP_BY_HOP | DESTINATION => {
                *self = Self {
                    left: len - HEADER_LEN,
                    padding: 0,
                    count: 0,
                    hop_by_hop: (kind == HOP_BY_HOP).into(),
                };
                HEADER_LEN
            }
            FRAGMENT => UNIT,
            _ => len,
        }
    }

    /// Reads the option at the start of `word`, at a multiple of 4 bytes from the IPv6 header or not. Gives its length, `None`
    /// where the kernel drops the packet.
    #[inline(always)]
    fn read(&mut self, word: u64, aligned: bool) -> Option<u64> {
        let kind = word as u8;
        let len = match kind {
            PAD_1 => 1,
            _ => HEADER_LEN + (word >> 8 & 0xff),
        };
        if len > self.left {
            return None;
        }
        self.left -= len;
        if kind == PAD_1 || kind == PAD_N {
            self.padding += len;
            let is_padding =
                self.padding <= MAX_PADDING && (kind == PAD_1 || is_zero(word, len - HEADER_LEN));
            return is_padding.then_some(len);
        }
        self.padding = 0;
        self.count += 1;
        let taken = match kind {
            ROUTER_ALERT if self.hop_by_hop != 0 => len == HEADER_LEN + 2,
            IOAM if self.hop_by_hop != 0 => aligned,
            _ => kind & DISCARDS == 0,
        };
        (taken && self.count <= MAX_OPTIONS).then_some(len)
    }
}

/// The `len` bytes behind kind and length at the start of `word` are zeros; at most 6.
#[inline(always)]
const fn is_zero(word: u64, len: u64) -> bool {
    let others = u64::MAX.wrapping_shl(8 * len as u32);
    word >> (8 * HEADER_LEN) & !others == 0
}
