//! TCP options: what they say about TCP Fast Open, exactly as Linux reads it.
//!
//! Source: RFC 7413 section 4.1.1 and Linux' `tcp_parse_options` with `tcp_parse_fastopen_option`.
//! Where they differ (Linux takes cookies of 4 to 16 bytes but only ever issues 8), Linux wins:
//! - kind 34 carries a cookie of `size - 2` bytes; kind 254 with the magic `f9 89` one of `size - 4`.
//! - length 0 asks for a cookie; an even length of 4 to 16 presents one.
//! - any other even length says "no option", and so erases one that stood before.
//! - an odd length is passed over; what stood before stays.
//! - of several, the last one that counts wins, whichever kind it has.
//! - an end-of-list, a size below 2 or past the header's end, or a kind without a size ends the
//!   list; what was read so far stays.

use super::Frame;
use crate::cookie::Cookie;

/// Most bytes of options that a TCP header has.
pub const MAX_LEN: usize = 40;

/// Any offset within the options has no other bits.
const OFFSET_MASK: u64 = 0x3f;

const END_OF_LIST: u8 = 0;
const NO_OPERATION: u8 = 1;
const FAST_OPEN: u8 = 34;
const EXPERIMENTAL: u8 = 254;
const EXPERIMENTAL_MAGIC: [u8; 2] = [0xf9, 0x89];

/// Bytes before the cookie: kind and size.
const HEADER: usize = 2;
/// Bytes before the cookie in the experimental form: kind, size and magic.
const EXPERIMENTAL_HEADER: usize = 4;

/// Cookie lengths that Linux takes for a cookie: `TCP_FASTOPEN_COOKIE_MIN` and `_MAX`.
const COOKIE_MIN: usize = 4;
const COOKIE_MAX: usize = 16;

/// What a SYN says about TCP Fast Open.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpen {
    /// Nothing that the kernel would take for a Fast Open option.
    Absent,
    /// It asks for a cookie.
    Request,
    /// It presents a cookie of the length that Linux issues, [`Cookie::LEN`].
    Cookie(Cookie),
    /// It presents a cookie of another length, which can never be valid.
    BadLength,
}

/// What the options of one SYN say, and how well they say it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// The option that counts.
    pub fast_open: FastOpen,
    /// That option has the experimental form, kind 254.
    pub experimental: bool,
    /// The list is broken off, or a Fast Open option has a length that no cookie has.
    pub malformed: bool,
}

impl Options {
    /// A header without options.
    pub const NONE: Self = Self {
        fast_open: FastOpen::Absent,
        experimental: false,
        malformed: false,
    };
}

/// The Fast Open option that stands so far, packed into one word, so that the kernel's verifier has
/// one number to follow rather than five.
#[derive(Clone, Copy)]
struct Standing(u64);

impl Standing {
    const NONE: Self = Self(0);
    const PRESENT: u64 = 1 << 16;
    const EXPERIMENTAL: u64 = 1 << 17;
    /// Not of the option that stands, but of the whole list so far.
    const MALFORMED: u64 = 1 << 18;

    /// A request or a cookie of `len` bytes stands at offset `at`, where nothing stood.
    #[inline(always)]
    const fn set(&mut self, at: usize, len: usize, experimental: bool) {
        let kind = if experimental { Self::EXPERIMENTAL } else { 0 };
        self.0 |= Self::PRESENT | kind | (at as u64) << 8 | len as u64;
    }

    /// Nothing stands any more.
    #[inline(always)]
    const fn erase(&mut self) {
        self.0 &= Self::MALFORMED;
    }

    #[inline(always)]
    const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    #[inline(always)]
    const fn len(self) -> usize {
        (self.0 & 0xff) as usize
    }

    #[inline(always)]
    const fn at(self) -> usize {
        (self.0 >> 8 & OFFSET_MASK) as usize
    }
}

/// Reads the `len` bytes of options (at most [`MAX_LEN`]) from offset `start` of `frame`.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(frame: &F, start: usize, len: usize) -> Options {
    let mut standing = Standing::NONE;
    let mut at = 0;
    // Each option takes at least one byte, so MAX_LEN rounds read any list to its end.
    for _ in 0..MAX_LEN {
        at = frame.opaque(at) & OFFSET_MASK;
        standing = Standing(frame.opaque(standing.0));
        if at as usize >= len {
            break;
        }
        match step(frame, start, len, at as usize, &mut standing) {
            Some(next) => at = next as u64,
            None => break,
        }
    }
    Options {
        fast_open: fast_open(frame, start, standing),
        experimental: standing.is(Standing::EXPERIMENTAL),
        malformed: standing.is(Standing::MALFORMED),
    }
}

/// Reads the option at offset `at` of the options and gives the offset of the next one, or `None`
/// where the list ends.
#[inline(always)]
fn step<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    len: usize,
    at: usize,
    standing: &mut Standing,
) -> Option<usize> {
    let [kind] = frame.bytes(start + at)?;
    if kind == END_OF_LIST {
        return None;
    }
    if kind == NO_OPERATION {
        return Some(at + 1);
    }
    // A kind in the last byte has a size of 0 here, as good as none.
    let size = frame
        .bytes(start + at)
        .map_or(0, |[_, size]| usize::from(size));
    if size < HEADER || at + size > len {
        standing.0 |= Standing::MALFORMED;
        return None;
    }
    let header = if kind == FAST_OPEN {
        HEADER
    } else if kind == EXPERIMENTAL && size >= EXPERIMENTAL_HEADER && has_magic(frame, start + at) {
        EXPERIMENTAL_HEADER
    } else {
        return Some(at + size);
    };
    let cookie_len = size - header;
    if cookie_len % 2 == 0 {
        standing.erase();
    }
    if cookie_len == 0 || (cookie_len % 2 == 0 && is_cookie_len(cookie_len)) {
        standing.set(at + header, cookie_len, header == EXPERIMENTAL_HEADER);
    } else {
        standing.0 |= Standing::MALFORMED;
    }
    Some(at + size)
}

#[inline(always)]
const fn is_cookie_len(len: usize) -> bool {
    len >= COOKIE_MIN && len <= COOKIE_MAX
}

/// Whether the experimental option at offset `at` of the frame is Fast Open's.
#[inline(always)]
fn has_magic<F: Frame + ?Sized>(frame: &F, at: usize) -> bool {
    matches!(frame.bytes(at), Some([_, _, a, b]) if [a, b] == EXPERIMENTAL_MAGIC)
}

/// The option that `standing` points at.
#[inline(always)]
fn fast_open<F: Frame + ?Sized>(frame: &F, start: usize, standing: Standing) -> FastOpen {
    if !standing.is(Standing::PRESENT) {
        return FastOpen::Absent;
    }
    match standing.len() {
        0 => FastOpen::Request,
        Cookie::LEN => match frame.words(start + standing.at()) {
            Some([word]) => FastOpen::Cookie(Cookie::from_word(word)),
            None => FastOpen::BadLength,
        },
        _ => FastOpen::BadLength,
    }
}
