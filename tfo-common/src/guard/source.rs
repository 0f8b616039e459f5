//! Token buckets of sources.

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

#[cfg(test)]
mod tests {
    use super::*;

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
