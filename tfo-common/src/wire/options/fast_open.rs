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

use super::{
    AO, COOKIE_MAX, COOKIE_MIN, EXPERIMENTAL, EXPERIMENTAL_HEADER_LEN, FAST_OPEN, HEADER_LEN, MD5,
    OFFSET_MASK, RawOption, TIMESTAMPS, TIMESTAMPS_SIZE, Visitor, linux_list,
    packed::Found,
    signature::{AO_MIN_SIZE, MD5_SIZE},
    walk,
};
pub use super::{
    content::{FastOpen, OptionPlace, SynOptions},
    cookie::Cookie,
    packed::PackedOptions,
};
use crate::wire::{Frame, View};

const EXPERIMENTAL_MAGIC: u16 = 0xf989;

/// Reads the `len` bytes of options (at most [`super::MAX_LEN`]) from offset `start` of `frame`, a SYN with or without
/// data. Returns their content, and the place of the option that counts.
#[inline(always)]
pub fn parse<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    len: usize,
    has_data: bool,
) -> (SynOptions, OptionPlace) {
    let packed = parse_packed(frame, start, len, has_data);
    (packed.unpack(), packed.place())
}

/// As [`parse`], in the form that a [`super::super::syn::Syn`] carries.
#[inline(always)]
pub fn parse_packed<F: Frame + ?Sized>(
    frame: &F,
    start: usize,
    len: usize,
    has_data: bool,
) -> PackedOptions {
    let mut found = Found::NONE;
    walk(frame, start, len, &mut found);
    PackedOptions::read(frame, start, found, has_data)
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
