//! What the options of a SYN say in the few words in which the walk finds it. A program carries these, and unpacks what it
//! asks for: enums would be tested once when they are made and again when they are read, and the verifier would follow
//! each combination of them to the end.

use super::{
    COOKIE_MIN, EXPERIMENTAL_HEADER_LEN, HEADER_LEN, OFFSET_MASK,
    content::{FastOpen, OptionPlace, SynOptions},
    cookie::Cookie,
    signature::Signatures,
};
use crate::wire::{Frame, View as _};

/// The option that counts, and what else the list holds.
#[derive(Clone, Copy, Debug)]
pub(super) struct Found(pub(super) u64);

impl Found {
    pub(super) const NONE: Self = Self(0);
    /// Bytes of the cookie; the offset of its first byte is in the 8 bits above.
    const LEN: u64 = 0xff;
    pub(super) const PRESENT: u64 = 1 << 16;
    const EXPERIMENTAL: u64 = 1 << 17;
    /// Bits of the option that counts; all others concern the whole list.
    const OPTION: u64 = 0xffff | Self::PRESENT | Self::EXPERIMENTAL;
    pub(super) const MALFORMED: u64 = 1 << 18;
    /// An option was replaced by a later one.
    const SEVERAL: u64 = 1 << 19;
    /// Shifts of 6-bit fields: bytes left at the first fault and at the first signature of either kind, and the offset
    /// of `TSval`. 0 for none.
    pub(super) const FAULT: u32 = 20;
    pub(super) const MD5: u32 = 26;
    pub(super) const AO: u32 = 32;
    pub(super) const TSVAL: u32 = 38;
    /// `TSval` was read.
    pub(super) const HAS_TSVAL: u64 = 1 << 44;

    /// A cookie of `len` bytes at offset `at` counts from now on; none did before.
    #[inline(always)]
    pub(super) const fn set(&mut self, at: usize, len: usize, experimental: bool) {
        let kind = if experimental { Self::EXPERIMENTAL } else { 0 };
        self.0 |= Self::PRESENT | kind | (at as u64) << 8 | len as u64;
    }

    /// No option counts any more.
    #[inline(always)]
    pub(super) const fn erase(&mut self) {
        if self.is(Self::PRESENT) {
            self.0 |= Self::SEVERAL;
        }
        self.0 &= !Self::OPTION;
    }

    /// Sets a field that is not set yet.
    #[inline(always)]
    pub(super) const fn note(&mut self, field: u32, value: usize) {
        if self.field(field) == 0 {
            self.0 |= (value as u64) << field;
        }
    }

    #[inline(always)]
    pub(super) const fn field(self, shift: u32) -> u8 {
        (self.0 >> shift & OFFSET_MASK) as u8
    }

    /// Notes a signature with `left` bytes of the list from its kind on. A second one is a fault.
    #[inline(always)]
    pub(super) const fn sign(&mut self, field: u32, left: usize) {
        if self.0 & (OFFSET_MASK << Self::MD5 | OFFSET_MASK << Self::AO) != 0 {
            self.note(Self::FAULT, left);
        }
        self.note(field, left);
    }

    #[inline(always)]
    pub(super) const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// Bytes of the cookie.
    #[inline(always)]
    pub(super) const fn len(self) -> usize {
        (self.0 & Self::LEN) as usize
    }

    /// Offset of the cookie from the first byte of the options.
    #[inline(always)]
    pub(super) const fn at(self) -> usize {
        (self.0 >> 8 & OFFSET_MASK) as usize
    }

    #[inline(always)]
    const fn header_len(self) -> usize {
        if self.is(Self::EXPERIMENTAL) {
            EXPERIMENTAL_HEADER_LEN
        } else {
            HEADER_LEN
        }
    }
}

/// [`SynOptions`] and [`OptionPlace`] of one SYN.
#[derive(Clone, Copy, Debug)]
pub struct PackedOptions {
    found: Found,
    /// The cookie, if one of [`Cookie::LEN`] bytes counts.
    cookie: Cookie,
    /// `TSval`, if [`Found::HAS_TSVAL`].
    tsval: u32,
}

impl PackedOptions {
    /// A header without options.
    pub const NONE: Self = Self {
        found: Found::NONE,
        cookie: Cookie::from_word(0),
        tsval: 0,
    };

    /// Reads the values at the places that the walk `found` in the list from offset `start` of `frame`.
    #[inline(always)]
    pub(super) fn read<F: Frame + ?Sized>(
        frame: &F,
        start: usize,
        mut found: Found,
        wants_tsval: bool,
    ) -> Self {
        let mut cookie = Self::NONE.cookie;
        if found.is(Found::PRESENT) && found.len() == Cookie::LEN {
            match frame.words(start + found.at()) {
                Some([word]) => cookie = Cookie::from_word(word),
                None => found.0 |= Found::LEN, // no length of a cookie
            }
        }
        let mut tsval = 0;
        let at = usize::from(found.field(Found::TSVAL));
        if at > 0
            && (wants_tsval || found.is(Found::PRESENT))
            && let Some(value) = frame.view::<4>(start + at)
        {
            tsval = u32::from(value.half(0)) << 16 | u32::from(value.half(2));
            found.0 |= Found::HAS_TSVAL;
        }
        // The verifier then goes on once, not once for each kind of list.
        found.0 = frame.barrier_var(found.0);
        Self {
            found,
            cookie,
            tsval,
        }
    }

    /// The Fast Open option that counts.
    #[inline(always)]
    pub const fn fast_open(self) -> FastOpen {
        if !self.has_fast_open() {
            return FastOpen::Absent;
        }
        match self.found.len() {
            0 => FastOpen::Request,
            Cookie::LEN => FastOpen::Cookie(self.cookie),
            _ => FastOpen::BadLength,
        }
    }

    /// A Fast Open option counts.
    #[inline(always)]
    pub const fn has_fast_open(self) -> bool {
        self.found.is(Found::PRESENT)
    }

    /// See [`SynOptions::experimental`].
    #[inline(always)]
    pub const fn is_experimental(self) -> bool {
        self.found.is(Found::EXPERIMENTAL)
    }

    /// See [`SynOptions::malformed`].
    #[inline(always)]
    pub const fn is_malformed(self) -> bool {
        self.found.is(Found::MALFORMED)
    }

    /// See [`SynOptions::signatures`].
    #[inline(always)]
    pub const fn signatures(self) -> Signatures {
        Signatures {
            fault: self.found.field(Found::FAULT),
            md5: self.found.field(Found::MD5),
            ao: self.found.field(Found::AO),
        }
    }

    /// See [`SynOptions::tsval`].
    #[inline(always)]
    pub const fn tsval(self) -> Option<u32> {
        if self.found.is(Found::HAS_TSVAL) {
            Some(self.tsval)
        } else {
            None
        }
    }

    /// The place of the Fast Open option that counts.
    #[inline(always)]
    pub const fn place(self) -> OptionPlace {
        if !self.has_fast_open() {
            return OptionPlace::NONE;
        }
        let header_len = self.found.header_len();
        OptionPlace {
            at: (self.found.at() - header_len) as u8,
            len: (self.found.len() + header_len) as u8,
            sole: !self.found.is(Found::SEVERAL),
        }
    }

    /// The option that counts has another cookie of [`Cookie::LEN`] bytes from now on.
    #[inline(always)]
    pub const fn set_cookie(&mut self, cookie: Cookie) {
        self.cookie = cookie;
    }

    /// The option that counts is a request from now on.
    #[inline(always)]
    pub const fn set_request(&mut self) {
        self.found.0 &= !Found::LEN;
    }

    /// No option counts any more.
    #[inline(always)]
    pub const fn set_absent(&mut self) {
        self.found.0 &= !Found::OPTION;
    }

    /// All values, each in its type.
    #[inline(always)]
    pub const fn unpack(self) -> SynOptions {
        SynOptions {
            fast_open: self.fast_open(),
            experimental: self.is_experimental(),
            malformed: self.is_malformed(),
            signatures: self.signatures(),
            tsval: self.tsval(),
        }
    }

    /// The packed form of values, for a host that makes up a SYN.
    pub fn pack(options: &SynOptions, place: OptionPlace) -> Self {
        let mut found = Found::NONE;
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        found.0 |= flag(options.experimental, Found::EXPERIMENTAL)
            | flag(options.malformed, Found::MALFORMED)
            | flag(options.tsval.is_some(), Found::HAS_TSVAL)
            | flag(!place.sole, Found::SEVERAL);
        let header_len = found.header_len();
        let mut cookie = Self::NONE.cookie;
        let len = match options.fast_open {
            FastOpen::Absent => None,
            FastOpen::Request => Some(0),
            FastOpen::Cookie(value) => {
                cookie = value;
                Some(Cookie::LEN)
            }
            FastOpen::BadLength => Some(
                usize::from(place.len)
                    .saturating_sub(header_len)
                    .max(COOKIE_MIN),
            ),
        };
        if let Some(len) = len {
            let at = usize::from(place.at) + header_len;
            found.set(at, len, options.experimental);
        }
        for (field, left) in [
            (Found::FAULT, options.signatures.fault),
            (Found::MD5, options.signatures.md5),
            (Found::AO, options.signatures.ao),
        ] {
            found.note(field, left.into());
        }
        Self {
            found,
            cookie,
            tsval: options.tsval.unwrap_or(0),
        }
    }
}

impl PartialEq for PackedOptions {
    fn eq(&self, other: &Self) -> bool {
        self.unpack() == other.unpack() && self.place() == other.place()
    }
}

impl Eq for PackedOptions {}

/// As the only option of its list.
impl From<FastOpen> for PackedOptions {
    fn from(fast_open: FastOpen) -> Self {
        let options = SynOptions {
            fast_open,
            ..SynOptions::NONE
        };
        Self::pack(&options, OptionPlace::NONE)
    }
}
