//! Sources: which ones cannot exist, and the token buckets of the rest.

use crate::{
    fastopen::Key,
    wire::addresses::{Address, Addresses},
};

/// Number of buckets. Sources that share one share its tokens; which do depends on a secret.
pub const BUCKETS: usize = 1 << 16;

/// The kinds of tokens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u64)]
pub enum Bucket {
    /// SYN-ACKs that challenge.
    Replies,
    /// SYNs with a valid cookie.
    Proven,
}

/// Index of a source's bucket: multiply-shift hashing (Dietzfelbinger et al., 1997) under a secret that never leaves
/// the kernel. An IPv6 source is its first 64 bits.
#[inline(always)]
pub fn bucket_index(secret: &Key, addresses: &Addresses, bucket: Bucket) -> u32 {
    let [a, b] = match addresses {
        Addresses::V4(_) => Address::source(addresses).0,
        Addresses::V6([a, ..]) => [*a, 0],
    };
    let [k0, k1] = secret.words();
    let first = (a ^ k0).wrapping_mul(k1 | 1);
    let mixed = (first ^ first >> 32 ^ b ^ bucket as u64).wrapping_mul(k0 | 1);
    (mixed >> 48) as u32 % BUCKETS as u32
}

/// `true` if the source address is martian: the kernel drops packets from it (`ip_route_input_slow`, `ip6_rcv_core`),
/// and an answer would reach another host.
#[inline(always)]
pub const fn is_martian(addresses: &Addresses) -> bool {
    match addresses {
        Addresses::V4(word) => {
            let (source, destination) = (*word as u32, (*word >> 32) as u32);
            let first = source as u8;
            let loops = first == 127 && destination as u8 != 127;
            // 0/8; 224/4; 255.255.255.255.
            first == 0
                || first & 0xf0 == 0xe0
                || source == u32::MAX
                || loops
                || (source == destination && first != 127)
        }
        Addresses::V6([a, b, c, d]) => {
            let loopback = *a == 0 && *b == 1 << 56;
            let to_loopback = *c == 0 && *d == 1 << 56;
            let unspecified = *a == 0 && *b == 0;
            let mapped = *a == 0 && *b as u32 == 0xffff_0000;
            let same = *a == *c && *b == *d;
            *a as u8 == 0xff
                || unspecified
                || mapped
                || (loopback && !to_loopback)
                || (same && !loopback)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn martians_are_known() {
        let v4 = |source| Addresses::v4(source, [10, 0, 0, 1]);
        for source in [
            [0, 1, 2, 3],
            [127, 0, 0, 1],
            [224, 0, 0, 1],
            [239, 255, 0, 1],
            [255; 4],
            [10, 0, 0, 1],
        ] {
            assert!(is_martian(&v4(source)), "{source:?}");
        }
        for source in [[10, 0, 0, 2], [223, 255, 255, 255], [240, 0, 0, 1]] {
            assert!(!is_martian(&v4(source)), "{source:?}");
        }
        let lo = [127, 0, 0, 1];
        assert!(!is_martian(&Addresses::v4(lo, lo)));
        let v6 = |text: &str| text.parse::<std::net::Ipv6Addr>().unwrap().octets();
        let to = v6("2001:db8::1");
        for source in ["::", "::1", "::ffff:10.0.0.2", "ff02::1", "2001:db8::1"] {
            assert!(is_martian(&Addresses::v6(v6(source), to)), "{source}");
        }
        for source in ["2001:db8::2", "fe80::1"] {
            assert!(!is_martian(&Addresses::v6(v6(source), to)), "{source}");
        }
        assert!(!is_martian(&Addresses::v6(v6("::1"), v6("::1"))));
    }

    const KEY: Key = Key::from_groups([0x9e37_79b9, 0x7f4a_7c15, 0xbf58_476d, 0x1ce4_e5b9]);

    #[test]
    fn an_ipv6_source_is_its_network() {
        let of = |a, b| bucket_index(&KEY, &Addresses::V6([a, b, 0, 0]), Bucket::Replies);
        assert_eq!(of(1, 2), of(1, 3));
        assert_ne!(of(1, 2), of(2, 2));
    }

    /// Sources that follow each other, as those of a network do, are spread over all buckets.
    #[test]
    fn sources_spread_over_the_buckets() {
        let mut taken = std::vec![0_u32; BUCKETS];
        for source in 0..4 * BUCKETS as u32 {
            let addresses = Addresses::v4(source.to_be_bytes(), [10, 0, 0, 1]);
            taken[bucket_index(&KEY, &addresses, Bucket::Replies) as usize] += 1;
        }
        let empty = taken.iter().filter(|count| **count == 0).count();
        assert!(empty < BUCKETS / 4, "{empty} of {BUCKETS} are empty");
        assert!(taken.iter().all(|count| *count < 64));
    }
}
