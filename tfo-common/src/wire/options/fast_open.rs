//! TCP Fast Open in the options of a SYN, exactly as Linux reads it.
//!
//! Source: RFC 7413 section 4.1.1 and Linux' `tcp_parse_options` with `tcp_parse_fastopen_option`. Where they differ
//! (Linux accepts cookies of 4 to 16 bytes but only ever issues 8), Linux wins:
//! - kind 34 carries a cookie of `size - 2` bytes; kind 254 with the magic `f9 89` one of `size - 4`.
//! - length 0 asks for a cookie; an even length of 4 to 16 presents one.
//! - any other even length erases an option that came before, as if there were none.
//! - an odd length is ignored; an option that came before stays.
//! - of several, the last one that counts wins, whichever kind it has.
//!
//! The same visitor notes what the kernel's other readers of the list go by: signatures ([`super::signature`]) and
//! the timestamp.

pub use super::cookie::Cookie;
use super::{
    AO, EXPERIMENTAL, FAST_OPEN, HEADER_LEN, MD5, OFFSET_MASK, RawOption, TIMESTAMPS,
    TIMESTAMPS_SIZE, Visitor, linux_list,
    signature::{AO_MIN_SIZE, MD5_SIZE, Signatures},
    walk,
};
use crate::wire::{Frame, View};

const EXPERIMENTAL_MAGIC: u16 = 0xf989;
/// Bytes before the cookie in the experimental form: kind, size and magic.
pub(in crate::wire) const EXPERIMENTAL_HEADER_LEN: usize = 4;

/// Lengths that Linux takes for a cookie's: `TCP_FASTOPEN_COOKIE_MIN` and `_MAX`.
const COOKIE_MIN: usize = 4;
pub(in crate::wire) const COOKIE_MAX: usize = 16;

/// Content of the Fast Open option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FastOpen {
    /// No option that the kernel would take for Fast Open.
    Absent,
    /// A cookie request.
    Request,
    /// A cookie of the length that Linux issues, [`Cookie::LEN`].
    Cookie(Cookie),
    /// A cookie of another length, which can never be valid.
    BadLength,
}

/// Content of a SYN's options, as far as Fast Open depends on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SynOptions {
    /// The Fast Open option that counts.
    pub fast_open: FastOpen,
    /// The experimental form, kind 254.
    pub experimental: bool,
    /// The list breaks off, or a Fast Open option has a length that no cookie has.
    pub malformed: bool,
    /// Signatures, and faults as the kernel's reader of signatures finds them.
    pub signatures: Signatures,
    /// `TSval` (RFC 7323); read only from a SYN with a Fast Open option or data.
    pub tsval: Option<u32>,
}

impl SynOptions {
    /// A header without options.
    pub const NONE: Self = Self {
        fast_open: FastOpen::Absent,
        experimental: false,
        malformed: false,
        signatures: Signatures::NONE,
        tsval: None,
    };
}

/// Place of the Fast Open option that counts, within the options.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OptionPlace {
    /// Offset of its first byte from the first byte of the options.
    pub at: u8,
    /// Bytes, kind and size among them; 0 where there is no option.
    pub len: u8,
    /// No other Fast Open option precedes it, which would count in its stead.
    pub sole: bool,
}

impl OptionPlace {
    /// Offset of a cookie of [`Cookie::LEN`] bytes in this option from the first byte of the options.
    #[inline(always)]
    pub const fn cookie(self) -> u8 {
        (self.at + self.len).saturating_sub(Cookie::LEN as u8)
    }

    /// No option.
    pub const NONE: Self = Self {
        at: 0,
        len: 0,
        sole: true,
    };
}

/// The visitor's state in one word: the option that counts so far, and what else the list holds.
#[derive(Clone, Copy)]
struct Found(u64);

impl Found {
    const NONE: Self = Self(0);
    const PRESENT: u64 = 1 << 16;
    const EXPERIMENTAL: u64 = 1 << 17;
    /// Bits of the option that counts; all others concern the whole list.
    const OPTION: u64 = 0xffff | Self::PRESENT | Self::EXPERIMENTAL;
    const MALFORMED: u64 = 1 << 18;
    /// An option was replaced by a later one.
    const SEVERAL: u64 = 1 << 19;
    /// Shifts of 6-bit fields: bytes left at the first fault and at the first signature of either kind, and the offset
    /// of `TSval`. 0 for none.
    const FAULT: u32 = 20;
    const MD5: u32 = 26;
    const AO: u32 = 32;
    const TSVAL: u32 = 38;

    /// A cookie of `len` bytes at offset `at` counts from now on; none did before.
    #[inline(always)]
    const fn set(&mut self, at: usize, len: usize, experimental: bool) {
        let kind = if experimental { Self::EXPERIMENTAL } else { 0 };
        self.0 |= Self::PRESENT | kind | (at as u64) << 8 | len as u64;
    }

    /// No option counts any more.
    #[inline(always)]
    const fn erase(&mut self) {
        if self.is(Self::PRESENT) {
            self.0 |= Self::SEVERAL;
        }
        self.0 &= !Self::OPTION;
    }

    /// Sets a field that is not set yet.
    #[inline(always)]
    const fn note(&mut self, field: u32, value: usize) {
        if self.field(field) == 0 {
            self.0 |= (value as u64) << field;
        }
    }

    #[inline(always)]
    const fn field(self, shift: u32) -> u8 {
        (self.0 >> shift & OFFSET_MASK) as u8
    }

    /// Notes a signature with `left` bytes of the list from its kind on. A second one is a fault.
    #[inline(always)]
    const fn sign(&mut self, field: u32, left: usize) {
        if self.0 & (OFFSET_MASK << Self::MD5 | OFFSET_MASK << Self::AO) != 0 {
            self.note(Self::FAULT, left);
        }
        self.note(field, left);
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
    const fn place(self) -> OptionPlace {
        if !self.is(Self::PRESENT) {
            return OptionPlace::NONE;
        }
        let header = if self.is(Self::EXPERIMENTAL) {
            EXPERIMENTAL_HEADER_LEN
        } else {
            HEADER_LEN
        };
        OptionPlace {
            at: (self.at() - header) as u8,
            len: (self.len() + header) as u8,
            sole: !self.is(Self::SEVERAL),
        }
    }
}

/// Reads the `len` bytes of options (at most [`super::MAX_LEN`]) from offset `start` of `frame`, a SYN with or without
/// data. Returns their content, and the place of the option that counts.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    len: usize,
    has_data: bool,
) -> (SynOptions, OptionPlace) {
    let mut found = Found::NONE;
    walk(frame, start, len, &mut found);
    let options = SynOptions {
        fast_open: found.fast_open(frame, start),
        experimental: found.is(Found::EXPERIMENTAL),
        malformed: found.is(Found::MALFORMED),
        signatures: Signatures {
            fault: found.field(Found::FAULT),
            md5: found.field(Found::MD5),
            ao: found.field(Found::AO),
        },
        tsval: if has_data || found.is(Found::PRESENT) {
            found.tsval(frame, start)
        } else {
            None
        },
    };
    (options, found.place())
}

impl Visitor for Found {
    #[inline(always)]
    fn linux_list(&mut self, _: &impl View, _: usize) -> bool {
        self.0 |= (linux_list::TSVAL as u64) << Self::TSVAL;
        true
    }

    #[inline(always)]
    fn linux_fast_open(&mut self, cookie_len: usize) {
        self.set(linux_list::LEN + HEADER_LEN, cookie_len, false);
    }

    #[inline(always)]
    fn option<F: Frame + ?Sized>(&mut self, frame: &F, option: RawOption) {
        let header = match option.kind {
            FAST_OPEN => HEADER_LEN,
            EXPERIMENTAL
                if option.size >= EXPERIMENTAL_HEADER_LEN && has_magic(frame, option.frame_at) =>
            {
                EXPERIMENTAL_HEADER_LEN
            }
            _ => return self.note_other(option),
        };
        let cookie_len = option.size - header;
        if cookie_len.is_multiple_of(2) {
            self.erase();
        }
        if cookie_len == 0 || (cookie_len.is_multiple_of(2) && is_cookie_len(cookie_len)) {
            self.set(
                option.at + header,
                cookie_len,
                header == EXPERIMENTAL_HEADER_LEN,
            );
        } else {
            self.0 |= Self::MALFORMED;
        }
    }

    #[inline(always)]
    fn broken(&mut self, left: usize) {
        self.0 |= Self::MALFORMED;
        self.note(Self::FAULT, left);
    }

    #[inline(always)]
    fn barrier_var<F: Frame + ?Sized>(&mut self, frame: &F) {
        self.0 = frame.barrier_var(self.0);
    }
}

impl Found {
    /// Notes signatures and the timestamp.
    #[inline(always)]
    const fn note_other(&mut self, option: RawOption) {
        let RawOption { size, left, .. } = option;
        match option.kind {
            // Of several, the kernel takes the last.
            TIMESTAMPS if size == TIMESTAMPS_SIZE => {
                self.0 &= !(OFFSET_MASK << Self::TSVAL);
                self.note(Self::TSVAL, option.at + HEADER_LEN);
            }
            MD5 if size == MD5_SIZE => self.sign(Self::MD5, left),
            AO if size >= AO_MIN_SIZE => self.sign(Self::AO, left),
            MD5 | AO => self.note(Self::FAULT, left),
            _ => {}
        }
    }

    #[inline(always)]
    fn fast_open<F: Frame + ?Sized>(self, frame: &F, start: usize) -> FastOpen {
        if !self.is(Self::PRESENT) {
            return FastOpen::Absent;
        }
        match self.len() {
            0 => FastOpen::Request,
            Cookie::LEN => match frame.words(start + self.at()) {
                Some([word]) => FastOpen::Cookie(Cookie::from_word(word)),
                None => FastOpen::BadLength,
            },
            _ => FastOpen::BadLength,
        }
    }

    #[inline(always)]
    fn tsval<F: Frame + ?Sized>(self, frame: &F, start: usize) -> Option<u32> {
        const FOUND: u64 = 1 << 32;
        let at = usize::from(self.field(Self::TSVAL));
        let tsval = match frame.view::<4>(start + at) {
            Some(value) if at > 0 => {
                FOUND | u64::from(value.half(0)) << 16 | u64::from(value.half(2))
            }
            _ => 0,
        };
        // The verifier then goes on once, not once with a timestamp and once without.
        let tsval = frame.barrier_var(tsval);
        (tsval & FOUND != 0).then_some(tsval as u32)
    }
}

#[inline(always)]
const fn is_cookie_len(len: usize) -> bool {
    len >= COOKIE_MIN && len <= COOKIE_MAX
}

/// `true` if the experimental option at offset `at` of the frame is Fast Open's.
#[inline(always)]
fn has_magic<F: Frame + ?Sized>(frame: &F, at: usize) -> bool {
    let option = frame.view::<EXPERIMENTAL_HEADER_LEN>(at);
    option.is_some_and(|option| option.half(HEADER_LEN) == EXPERIMENTAL_MAGIC)
}
