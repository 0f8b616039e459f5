//! What the options of a SYN say, as far as Fast Open depends on them.

use super::{cookie::Cookie, signature::Signatures};

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
