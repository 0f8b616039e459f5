//! TCP options (RFC 9293 section 3.1): one bounded walk over a list, and what reads it.
//!
//! Each reader is a [`Visitor`]: [`fast_open`] reads a SYN for TCP Fast Open and [`signature`]s, [`negotiated`] for
//! the rest of the handshake. The walk itself follows Linux' `tcp_parse_options`: an end-of-list, a size below 2 or
//! past the header's end, or a kind without a size ends the list; what was read so far stays.

mod content;
mod cookie;
pub mod fast_open;
pub mod negotiated;
mod packed;
pub mod signature;

use super::{Frame, View};

/// Most bytes of options that a TCP header has.
pub const MAX_LEN: usize = 40;

pub(super) const END_OF_LIST: u8 = 0;
pub(super) const NO_OPERATION: u8 = 1;
const MSS: u8 = 2;
const WINDOW_SCALE: u8 = 3;
const SACK_PERMITTED: u8 = 4;
pub(super) const TIMESTAMPS: u8 = 8;
const MD5: u8 = 19;
const AO: u8 = 29;
const FAST_OPEN: u8 = 34;
pub(super) const EXPERIMENTAL: u8 = 254;

/// Bytes of a timestamps option.
pub(super) const TIMESTAMPS_SIZE: usize = 10;
/// Bytes of an option before its value: kind and size.
pub const HEADER_LEN: usize = 2;
/// Bytes before the cookie in the experimental form: kind, size and magic.
pub(super) const EXPERIMENTAL_HEADER_LEN: usize = 4;
/// Lengths that Linux takes for a cookie's: `TCP_FASTOPEN_COOKIE_MIN` and `_MAX`.
const COOKIE_MIN: usize = 4;
pub(super) const COOKIE_MAX: usize = 16;

/// Mask of an offset within the options.
const OFFSET_MASK: u64 = 0x3f;
/// Mask of the offset of the options in a frame.
const START_MASK: u64 = 0x7fff;

/// The list that a Linux client sends: MSS, SACK permitted, timestamps, a no-operation, window scale; and behind it, where
/// the client uses Fast Open, that option and two no-operations.
mod linux_list {
    use super::{
        FAST_OPEN, Frame, HEADER_LEN, NO_OPERATION, TIMESTAMPS, TIMESTAMPS_SIZE, View,
        cookie::Cookie,
    };

    /// Bytes of the list.
    pub(super) const LEN: usize = 20;
    /// Offset of the MSS in it.
    pub(super) const MSS: usize = 2;
    /// Offset of `TSval` in it.
    pub(super) const TSVAL: usize = 8;
    /// Offset of the window scale in it.
    pub(super) const WINDOW_SCALE: usize = LEN - 1;

    /// `true` if `list` begins so, whatever the values are.
    #[inline(always)]
    pub(super) fn matches(list: &impl View) -> bool {
        const FIRST: u64 =
            u64::from_le_bytes([2, 4, 0, 0, 4, 2, TIMESTAMPS, TIMESTAMPS_SIZE as u8]);
        const LAST: u64 = u64::from_le_bytes([0, 0, 0, 0, NO_OPERATION, 3, 3, 0]);
        const FIRST_MASK: u64 = 0xffff_ffff_0000_ffff;
        const LAST_MASK: u64 = 0x00ff_ffff_0000_0000;
        list.word(0) & FIRST_MASK == FIRST && list.word(LEN - 8) & LAST_MASK == LAST
    }

    /// Bytes of the cookie, if the `len` bytes from offset `at` of `frame` are Fast Open's option and its padding.
    #[inline(always)]
    pub(super) fn cookie_len<F: Frame + ?Sized>(frame: &F, at: usize, len: usize) -> Option<usize> {
        const PADDING: u16 = u16::from_be_bytes([NO_OPERATION; 2]);
        const REQUEST: usize = HEADER_LEN + 2;
        const COOKIE: usize = REQUEST + Cookie::LEN;
        let header =
            |cookie_len: usize| u16::from_be_bytes([FAST_OPEN, (HEADER_LEN + cookie_len) as u8]);
        let (cookie_len, [first, last]) = match len {
            REQUEST => {
                let option = frame.view::<REQUEST>(at)?;
                (0, [option.half(0), option.half(REQUEST - 2)])
            }
            COOKIE => {
                let option = frame.view::<COOKIE>(at)?;
                (Cookie::LEN, [option.half(0), option.half(COOKIE - 2)])
            }
            _ => return None,
        };
        (first == header(cookie_len) && last == PADDING).then_some(cookie_len)
    }
}

/// An option with a size, neither end-of-list nor no-operation, that lies within the list.
#[derive(Clone, Copy)]
struct RawOption {
    kind: u8,
    /// Bytes, kind and size among them.
    size: usize,
    /// Offset of the kind from the first byte of the list.
    at: usize,
    /// Offset of the kind from the first byte of the frame.
    frame_at: usize,
    /// Bytes of the list from the kind on.
    left: usize,
}

/// A reader of options. Its state is words, so that the walk can hide them from the verifier at each round.
trait Visitor {
    /// Reads the first [`linux_list::LEN`] bytes at once. `false`: they have to be walked.
    fn linux_list(&mut self, list: &impl View, start: usize) -> bool;

    /// Reads a Fast Open option behind that list, with a cookie of this many bytes. The list ends with it: nothing is walked
    /// after this call.
    fn linux_fast_open(&mut self, cookie_len: usize);

    /// Reads one option.
    fn option<F: Frame + ?Sized>(&mut self, frame: &F, option: RawOption);

    /// The list breaks off with `left` bytes.
    fn broken(&mut self, left: usize);

    /// Passes every word of the state through [`Frame::barrier_var`].
    fn barrier_var<F: Frame + ?Sized>(&mut self, frame: &F);
}

/// Shows `visitor` the `len` bytes of options (at most [`MAX_LEN`]) from offset `start` of `frame`.
#[inline(always)]
fn walk<F: Frame + ?Sized>(frame: &F, start: usize, len: usize, visitor: &mut impl Visitor) {
    let mut at = 0;
    // A check before the loop makes it another loop to the verifier, so it comes before the barriers.
    if len >= linux_list::LEN
        && let Some(list) = frame.view::<{ linux_list::LEN }>(start)
        && linux_list::matches(&list)
        && visitor.linux_list(&list, start)
    {
        at = linux_list::LEN as u64;
        let tail = len - linux_list::LEN;
        if tail == 0 {
            return;
        }
        if let Some(cookie_len) = linux_list::cookie_len(frame, start + linux_list::LEN, tail) {
            return visitor.linux_fast_open(cookie_len);
        }
    }
    // The verifier then follows the loop once, not once for each path that leads here.
    let start = (frame.barrier_var(start as u64) & START_MASK) as usize;
    let len = (frame.barrier_var(len as u64) & OFFSET_MASK) as usize;
    // Each option takes at least one byte, so MAX_LEN rounds read any list to its end.
    for _ in 0..MAX_LEN {
        at = frame.barrier_var(at) & OFFSET_MASK;
        visitor.barrier_var(frame);
        if at as usize >= len {
            break;
        }
        match step(frame, start, len, at as usize, visitor) {
            Some(next) => at = next as u64,
            None => break,
        }
    }
}

/// Reads the option at offset `at` of the list. Returns the offset of the next one, `None` at the list's end.
#[inline(always)]
fn step<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    len: usize,
    at: usize,
    visitor: &mut impl Visitor,
) -> Option<usize> {
    let (kind, size) = match frame.view::<HEADER_LEN>(start + at) {
        Some(option) => (option.byte(0), option.byte(1)),
        // A kind in the frame's last byte has no size: 0 is treated alike.
        None => (frame.view::<1>(start + at)?.byte(0), 0),
    };
    if kind == END_OF_LIST {
        return None;
    }
    if kind == NO_OPERATION {
        // They mostly come in pairs.
        return Some(at + if size == NO_OPERATION { 2 } else { 1 });
    }
    let (size, left) = (usize::from(size), len - at);
    if size < HEADER_LEN || size > left {
        visitor.broken(left);
        return None;
    }
    visitor.option(
        frame,
        RawOption {
            kind,
            size,
            at,
            frame_at: start + at,
            left,
        },
    );
    Some(at + size)
}
