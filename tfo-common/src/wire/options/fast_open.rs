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
//!
//! The same walk notes what the kernel's other readers of the list go by: signatures
//! ([`super::signature`]) and the timestamp.

use super::{Frame, View, signature::Signatures};
use crate::cookie::Cookie;

/// Most bytes of options that a TCP header has.
pub const MAX_LEN: usize = 40;

/// Any offset within the options has no other bits.
const OFFSET_MASK: u64 = 0x3f;

/// Nor has the offset of options in a frame.
const START_MASK: u64 = 0x7fff;

pub(super) const END_OF_LIST: u8 = 0;
pub(super) const NO_OPERATION: u8 = 1;
pub(super) const TIMESTAMP: u8 = 8;
const MD5: u8 = 19;
const AUTHENTICATION: u8 = 29;
const FAST_OPEN: u8 = 34;
pub(super) const EXPERIMENTAL: u8 = 254;
const EXPERIMENTAL_MAGIC: u16 = 0xf989;

/// Bytes of a timestamp option, of a TCP-MD5 signature, and at least of a TCP-AO one.
pub(super) const TIMESTAMP_SIZE: usize = 10;
const MD5_SIZE: usize = 18;
const AUTHENTICATION_MIN: usize = 5;

/// Bytes before the cookie: kind and size.
pub const HEADER: usize = 2;
/// Bytes before the cookie in the experimental form: kind, size and magic.
pub(super) const EXPERIMENTAL_HEADER: usize = 4;

/// Cookie lengths that Linux takes for a cookie: `TCP_FASTOPEN_COOKIE_MIN` and `_MAX`.
const COOKIE_MIN: usize = 4;
pub(super) const COOKIE_MAX: usize = 16;

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
    /// Signatures, and what the kernel's reader of signatures takes offence at.
    pub signatures: Signatures,
    /// The sender's clock (RFC 7323, `TSval`), where there is one and the SYN has a Fast Open option or
    /// data; no other is asked for it.
    pub timestamp: Option<u32>,
}

impl Options {
    /// A header without options.
    pub const NONE: Self = Self {
        fast_open: FastOpen::Absent,
        experimental: false,
        malformed: false,
        signatures: Signatures::NONE,
        timestamp: None,
    };
}

/// Where the Fast Open option that counts stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// Offset of its first byte from the first byte of the options.
    pub at: u8,
    /// Its bytes, kind and size among them; 0 where there is none.
    pub len: u8,
    /// No other Fast Open option stood before it, which would count in its stead.
    pub sole: bool,
}

impl Place {
    /// There is no option.
    pub const NONE: Self = Self {
        at: 0,
        len: 0,
        sole: true,
    };
}

/// The Fast Open option that stands so far and what the list has besides, packed into one word, so that
/// the kernel's verifier has one number to follow rather than many.
#[derive(Clone, Copy)]
struct Standing(u64);

impl Standing {
    const NONE: Self = Self(0);
    const PRESENT: u64 = 1 << 16;
    const EXPERIMENTAL: u64 = 1 << 17;
    /// The bits of the option that stands; all others are of the whole list so far.
    const OPTION: u64 = 0xffff | Self::PRESENT | Self::EXPERIMENTAL;
    const MALFORMED: u64 = 1 << 18;
    /// One stood, and another one took its place.
    const SEVERAL: u64 = 1 << 19;
    /// Where the first bit is of numbers of 6 bits: how much of the list was left where it first had a
    /// fault, where it first had a signature of either kind, and the timestamp's offset. 0 for none.
    const FAULT: u32 = 20;
    const MD5: u32 = 26;
    const AUTHENTICATION: u32 = 32;
    const TIMESTAMP: u32 = 38;

    /// A request or a cookie of `len` bytes stands at offset `at`, where nothing stood.
    #[inline(always)]
    const fn set(&mut self, at: usize, len: usize, experimental: bool) {
        let kind = if experimental { Self::EXPERIMENTAL } else { 0 };
        self.0 |= Self::PRESENT | kind | (at as u64) << 8 | len as u64;
    }

    /// Nothing stands any more.
    #[inline(always)]
    const fn erase(&mut self) {
        if self.is(Self::PRESENT) {
            self.0 |= Self::SEVERAL;
        }
        self.0 &= !Self::OPTION;
    }

    /// Notes the first number of its kind.
    #[inline(always)]
    const fn note(&mut self, number: u32, value: usize) {
        if self.number(number) == 0 {
            self.0 |= (value as u64) << number;
        }
    }

    #[inline(always)]
    const fn number(self, number: u32) -> u8 {
        (self.0 >> number & OFFSET_MASK) as u8
    }

    /// A signature, with `left` bytes of the list from its first. A second one is a fault.
    #[inline(always)]
    const fn sign(&mut self, number: u32, left: usize) {
        if self.0 & (OFFSET_MASK << Self::MD5 | OFFSET_MASK << Self::AUTHENTICATION) != 0 {
            self.note(Self::FAULT, left);
        }
        self.note(number, left);
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

    #[inline(always)]
    const fn place(self) -> Place {
        if !self.is(Self::PRESENT) {
            return Place::NONE;
        }
        let header = if self.is(Self::EXPERIMENTAL) {
            EXPERIMENTAL_HEADER
        } else {
            HEADER
        };
        Place {
            at: (self.at() - header) as u8,
            len: (self.len() + header) as u8,
            sole: !self.is(Self::SEVERAL),
        }
    }
}

/// Reads the `len` bytes of options (at most [`MAX_LEN`]) from offset `start` of `frame`, a SYN with or
/// without data. Gives what they say, and where the one stands that counts.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    len: usize,
    has_data: bool,
) -> (Options, Place) {
    let (mut at, mut standing) = beginning(frame, start, len);
    // In the kernel, the verifier then goes on once, not once for each way that leads here.
    let start = (frame.opaque(start as u64) & START_MASK) as usize;
    let len = (frame.opaque(len as u64) & OFFSET_MASK) as usize;
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
    let options = Options {
        fast_open: fast_open(frame, start, standing),
        experimental: standing.is(Standing::EXPERIMENTAL),
        malformed: standing.is(Standing::MALFORMED),
        signatures: Signatures {
            fault: standing.number(Standing::FAULT),
            md5: standing.number(Standing::MD5),
            authentication: standing.number(Standing::AUTHENTICATION),
        },
        timestamp: if has_data || standing.is(Standing::PRESENT) {
            timestamp(frame, start, standing)
        } else {
            None
        },
    };
    (options, standing.place())
}

/// What Linux's lists begin with: the most segment size; that selective acknowledgements are permitted; the
/// timestamp; a no-operation, and the window's scale.
pub(super) const USUAL_LEN: usize = 20;
/// Offset of the timestamp's first clock in them.
pub(super) const USUAL_CLOCK_AT: usize = 8;

/// Whether the first [`USUAL_LEN`] bytes are those, all but their values.
#[inline(always)]
pub(super) fn is_usual(list: &impl View) -> bool {
    const FIRST: u64 = u64::from_le_bytes([2, 4, 0, 0, 4, 2, TIMESTAMP, TIMESTAMP_SIZE as u8]);
    const LAST: u64 = u64::from_le_bytes([0, 0, 0, 0, NO_OPERATION, 3, 3, 0]);
    const FIRST_MASK: u64 = 0xffff_ffff_0000_ffff;
    const LAST_MASK: u64 = 0x00ff_ffff_0000_0000;
    list.word(0) & FIRST_MASK == FIRST && list.word(USUAL_LEN - 8) & LAST_MASK == LAST
}

/// Where the walk over the list begins, and what stands by then: behind what Linux's lists begin with, which
/// needs no walk, or at the list's first byte.
#[inline(always)]
fn beginning<F: Frame + ?Sized>(frame: &F, start: usize, len: usize) -> (u64, Standing) {
    if len >= USUAL_LEN
        && let Some(list) = frame.view::<USUAL_LEN>(start)
        && is_usual(&list)
    {
        let clock_at = (USUAL_CLOCK_AT as u64) << Standing::TIMESTAMP;
        return (USUAL_LEN as u64, Standing(clock_at));
    }
    (0, Standing::NONE)
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
    let (kind, size) = match frame.view::<HEADER>(start + at) {
        Some(option) => (option.byte(0), option.byte(1)),
        // A kind in the last byte has a size of 0 here, as good as none.
        None => (frame.view::<1>(start + at)?.byte(0), 0),
    };
    if kind == END_OF_LIST {
        return None;
    }
    if kind == NO_OPERATION {
        // They mostly come in twos.
        return Some(at + if size == NO_OPERATION { 2 } else { 1 });
    }
    let size = usize::from(size);
    let left = len - at;
    if size < HEADER || size > left {
        standing.0 |= Standing::MALFORMED;
        standing.note(Standing::FAULT, left);
        return None;
    }
    let header = if kind == FAST_OPEN {
        HEADER
    } else if kind == EXPERIMENTAL && size >= EXPERIMENTAL_HEADER && has_magic(frame, start + at) {
        EXPERIMENTAL_HEADER
    } else {
        note(kind, size, at, left, standing);
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

/// Notes what an option of another kind says to others.
#[inline(always)]
const fn note(kind: u8, size: usize, at: usize, left: usize, standing: &mut Standing) {
    match kind {
        // Of several, the kernel takes the last.
        TIMESTAMP if size == TIMESTAMP_SIZE => {
            standing.0 &= !(OFFSET_MASK << Standing::TIMESTAMP);
            standing.note(Standing::TIMESTAMP, at + HEADER);
        }
        MD5 if size == MD5_SIZE => standing.sign(Standing::MD5, left),
        AUTHENTICATION if size >= AUTHENTICATION_MIN => {
            standing.sign(Standing::AUTHENTICATION, left);
        }
        MD5 | AUTHENTICATION => standing.note(Standing::FAULT, left),
        _ => {}
    }
}

#[inline(always)]
const fn is_cookie_len(len: usize) -> bool {
    len >= COOKIE_MIN && len <= COOKIE_MAX
}

/// Whether the experimental option at offset `at` of the frame is Fast Open's.
#[inline(always)]
fn has_magic<F: Frame + ?Sized>(frame: &F, at: usize) -> bool {
    let option = frame.view::<EXPERIMENTAL_HEADER>(at);
    option.is_some_and(|option| option.half(HEADER) == EXPERIMENTAL_MAGIC)
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

/// The sender's clock at the offset that `standing` has.
#[inline(always)]
fn timestamp<F: Frame + ?Sized>(frame: &F, start: usize, standing: Standing) -> Option<u32> {
    const FOUND: u64 = 1 << 32;
    let at = usize::from(standing.number(Standing::TIMESTAMP));
    let clock = match frame.view::<4>(start + at) {
        Some(clock) if at > 0 => FOUND | u64::from(clock.half(0)) << 16 | u64::from(clock.half(2)),
        _ => 0,
    };
    // In the kernel, the verifier then goes on once, not once with a clock and once without.
    let clock = frame.opaque(clock);
    (clock & FOUND != 0).then_some(clock as u32)
}
