//! Cookies: SipHash-2-4 over both addresses, under one of the server's keys.
//!
//! Source: RFC 7413 section 4.1.2; Linux' `__tcp_fastopen_cookie_gen_cipher`, which hashes source then destination
//! address as they are on the wire, without ports or padding.

mod key;
pub mod own;
mod siphash;

pub use key::{Key, KeySet};
use siphash::siphash_2_4;

use crate::wire::addresses::Addresses;
pub use crate::wire::options::fast_open::Cookie;

impl Key {
    /// The cookie that a server with this key issues for these addresses.
    #[inline(always)]
    pub fn cookie(&self, addresses: &Addresses) -> Cookie {
        Cookie::from_word(match addresses {
            Addresses::V4(word) => self.siphash(&[*word]),
            Addresses::V6(words) => self.siphash(words),
        })
    }

    /// SipHash-2-4 of the words, little-endian, under this key.
    #[inline(always)]
    pub(crate) fn siphash<const N: usize>(&self, words: &[u64; N]) -> u64 {
        siphash_2_4(self.k0, self.k1, words)
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
            assert_eq!(key.cookie(&addresses).to_bytes(), cookie.to_be_bytes());
        }
    }
}
