//! The cookie: SipHash-2-4 over both addresses, under one of the server's keys.
//!
//! Source: RFC 7413 section 4.1.2; Linux' `__tcp_fastopen_cookie_gen_cipher`, which hashes source
//! then destination address as they are on the wire, without ports or padding.

mod key;
mod siphash;

pub use key::{Key, KeySet};
use siphash::siphash_2_4;

/// SipHash-2-4 of words under a key.
#[inline(always)]
pub(crate) fn siphash<const N: usize>(key: &Key, words: &[u64; N]) -> u64 {
    siphash_2_4(key.k0, key.k1, words)
}

/// Source then destination address, as on the wire, in little-endian words: the hash's own input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Addresses {
    /// Two 4-byte addresses.
    V4(u64),
    /// Two 16-byte addresses.
    V6([u64; 4]),
}

impl Addresses {
    /// The addresses of a segment from `source` to `destination`.
    pub fn v4(source: [u8; 4], destination: [u8; 4]) -> Self {
        let mut bytes = [0; 8];
        bytes[..4].copy_from_slice(&source);
        bytes[4..].copy_from_slice(&destination);
        Self::V4(u64::from_le_bytes(bytes))
    }

    /// The addresses of a segment from `source` to `destination`.
    pub fn v6(source: [u8; 16], destination: [u8; 16]) -> Self {
        let (source, destination) = (
            u128::from_le_bytes(source),
            u128::from_le_bytes(destination),
        );
        Self::V6([
            source as u64,
            (source >> 64) as u64,
            destination as u64,
            (destination >> 64) as u64,
        ])
    }
}

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

    /// The cookie that a server with `key` hands to the client of `addresses`.
    #[inline(always)]
    pub fn issue(key: &Key, addresses: &Addresses) -> Self {
        Self(match addresses {
            Addresses::V4(word) => siphash_2_4(key.k0, key.k1, &[*word]),
            Addresses::V6(words) => siphash_2_4(key.k0, key.k1, words),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const A1B2: Key = Key::from_groups([0xa1a1_a1a1, 0xb2b2_b2b2, 0xc3c3_c3c3, 0xd4d4_d4d4]);
    const ZERO: Key = Key::from_groups([0; 4]);
    const COUNTING: Key = Key::from_groups([0x0011_2233, 0x4455_6677, 0x8899_aabb, 0xccdd_eeff]);

    fn v6(text: &str) -> [u8; 16] {
        text.parse::<std::net::Ipv6Addr>().unwrap().octets()
    }

    /// Cookies that Linux 6.18 issued.
    #[test]
    fn issues_what_linux_issues() {
        let v4 = Addresses::v4([192, 0, 2, 1], [192, 168, 0, 1]);
        let long = Addresses::v6(v6("fd3d:fa7b:d17d::1"), v6("fd3d:0a0b:17d6::1"));
        for (key, addresses, cookie) in [
            (A1B2, v4, 0x3021_b9d8_8901_7eeb),
            (ZERO, v4, 0xb7c1_2350_a90d_c8f5),
            (A1B2, long, 0xc1d1_e974_2a47_a9bc),
            (ZERO, long, 0x82af_1a8f_9a20_5c34),
            (
                COUNTING,
                Addresses::v4([10, 77, 0, 2], [10, 77, 0, 1]),
                0x2d61_bfa6_54e1_f9bb,
            ),
            (
                COUNTING,
                Addresses::v6(v6("fd77::2"), v6("fd77::1")),
                0x0f36_4aa0_9e6a_14e0,
            ),
        ] {
            let cookie: u64 = cookie;
            assert_eq!(
                Cookie::issue(&key, &addresses).to_bytes(),
                cookie.to_be_bytes()
            );
        }
    }
}
