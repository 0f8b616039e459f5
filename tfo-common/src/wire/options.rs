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

use crate::cookie::Cookie;

/// Most bytes of options that a TCP header has.
pub const MAX_LEN: usize = 40;

/// Bytes of a [`Buffer`]: a power of two above [`MAX_LEN`], so that any index can be masked into it.
const BUFFER_LEN: usize = 64;
const BUFFER_MASK: usize = BUFFER_LEN - 1;

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

/// A TCP header's options, followed by zeros.
///
/// The zeros make a read past the end harmless: it finds an end-of-list.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(8))]
pub struct Buffer(pub [u8; BUFFER_LEN]);

impl Buffer {
    /// No options at all.
    pub const EMPTY: Self = Self([0; BUFFER_LEN]);

    #[inline(always)]
    const fn byte(&self, at: usize) -> u8 {
        self.0[at & BUFFER_MASK]
    }
}

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

/// The Fast Open option that stands so far, packed into one word so that the kernel's verifier has
/// one unknown number to follow rather than four.
#[derive(Clone, Copy)]
struct Standing(u32);

impl Standing {
    const NONE: Self = Self(0);
    const PRESENT: u32 = 1 << 16;
    const EXPERIMENTAL: u32 = 1 << 17;

    /// A request or a cookie of `len` bytes, at offset `at` of the options.
    #[inline(always)]
    const fn new(at: usize, len: usize, experimental: bool) -> Self {
        let kind = if experimental { Self::EXPERIMENTAL } else { 0 };
        Self(Self::PRESENT | kind | (at as u32) << 8 | len as u32)
    }

    const fn is_present(self) -> bool {
        self.0 & Self::PRESENT != 0
    }

    const fn is_experimental(self) -> bool {
        self.0 & Self::EXPERIMENTAL != 0
    }

    const fn len(self) -> usize {
        (self.0 & 0xff) as usize
    }

    const fn at(self) -> usize {
        (self.0 >> 8 & 0xff) as usize
    }
}

/// Reads the first `len` bytes of `buffer` (at most [`MAX_LEN`]; the rest of it must be zeros).
#[inline(always)]
pub fn parse(buffer: &Buffer, len: usize) -> Options {
    let mut standing = Standing::NONE;
    let mut malformed = false;
    let mut at = 0;
    // Each option takes at least one byte, so MAX_LEN rounds read any list to its end.
    for _ in 0..MAX_LEN {
        if at >= len {
            break;
        }
        let kind = buffer.byte(at);
        if kind == END_OF_LIST {
            break;
        }
        if kind == NO_OPERATION {
            at += 1;
            continue;
        }
        let size = usize::from(buffer.byte(at + 1));
        if size < HEADER || at + size > len {
            malformed = true;
            break;
        }
        let header = if kind == FAST_OPEN {
            HEADER
        } else if is_experimental(buffer, at, kind, size) {
            EXPERIMENTAL_HEADER
        } else {
            at += size;
            continue;
        };
        let cookie_len = size - header;
        if cookie_len == 0 || (cookie_len % 2 == 0 && is_cookie_len(cookie_len)) {
            standing = Standing::new(at + header, cookie_len, header == EXPERIMENTAL_HEADER);
        } else {
            malformed = true;
            if cookie_len % 2 == 0 {
                standing = Standing::NONE;
            }
        }
        at += size;
    }
    Options {
        fast_open: fast_open(buffer, standing),
        experimental: standing.is_experimental(),
        malformed,
    }
}

#[inline(always)]
const fn is_cookie_len(len: usize) -> bool {
    len >= COOKIE_MIN && len <= COOKIE_MAX
}

#[inline(always)]
const fn is_experimental(buffer: &Buffer, at: usize, kind: u8, size: usize) -> bool {
    kind == EXPERIMENTAL
        && size >= EXPERIMENTAL_HEADER
        && buffer.byte(at + 2) == EXPERIMENTAL_MAGIC[0]
        && buffer.byte(at + 3) == EXPERIMENTAL_MAGIC[1]
}

/// The option that `standing` points at.
#[inline(always)]
fn fast_open(buffer: &Buffer, standing: Standing) -> FastOpen {
    if !standing.is_present() {
        return FastOpen::Absent;
    }
    match standing.len() {
        0 => FastOpen::Request,
        Cookie::LEN => {
            let mut cookie = [0; Cookie::LEN];
            for (i, byte) in cookie.iter_mut().enumerate() {
                *byte = buffer.byte(standing.at() + i);
            }
            FastOpen::Cookie(Cookie::from_bytes(cookie))
        }
        _ => FastOpen::BadLength,
    }
}
