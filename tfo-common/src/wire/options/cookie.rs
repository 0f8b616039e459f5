//! The cookie in a Fast Open option.

/// A cookie of the length that Linux issues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Cookie(u64);

impl Cookie {
    /// Bytes of a cookie: `TCP_FASTOPEN_COOKIE_SIZE`.
    pub const LEN: usize = 8;

    /// The cookie that stands in an option as these bytes.
    pub const fn from_bytes(bytes: [u8; Self::LEN]) -> Self {
        Self(u64::from_le_bytes(bytes))
    }

    /// The cookie that stands in an option as this little-endian word.
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The little-endian word that stands in an option.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// The cookie as it stands in an option.
    pub const fn to_bytes(self) -> [u8; Self::LEN] {
        self.0.to_le_bytes()
    }
}
