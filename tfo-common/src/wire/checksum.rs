//! The Internet checksum of a packet that is changed in place. Source: RFC 1071, RFC 1624 (equation 3).

use super::{addresses::Addresses, tcp};

/// The effect of changed bytes on the checksum over them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Change(u32);

impl Change {
    /// One byte changes. `odd`: its offset from the first byte that the checksum covers is odd.
    #[inline(always)]
    pub const fn byte(&mut self, old: u8, new: u8, odd: bool) {
        let shift = if odd { 0 } else { 8 };
        self.0 += (!((old as u32) << shift) & 0xffff) + ((new as u32) << shift);
    }

    /// Eight bytes change, given as little-endian words. `odd`: as in [`Self::byte`].
    #[inline(always)]
    pub const fn word(&mut self, old: u64, new: u64, odd: bool) {
        // Both sums are of halves as they are on the wire.
        let sum = fold_words((!old & 0xffff_ffff) + (!old >> 32)) as u32
            + fold_words((new & 0xffff_ffff) + (new >> 32)) as u32;
        let wire = u16::from_be(fold(sum));
        self.0 += if odd { wire.swap_bytes() } else { wire } as u32;
    }

    /// The difference of the sums of all words, in the host's order.
    #[inline(always)]
    pub const fn sum(self) -> u16 {
        fold(self.0)
    }

    /// The checksum after the change, both in the host's order. At most 32,000 bytes may change.
    #[inline(always)]
    pub const fn apply(self, checksum: u16) -> u16 {
        !fold(self.0 + !checksum as u32)
    }
}

/// A sum of 16-bit words, in ones' complement.
#[inline(always)]
pub const fn fold(mut sum: u32) -> u16 {
    sum = (sum & 0xffff) + (sum >> 16);
    sum = (sum & 0xffff) + (sum >> 16);
    sum as u16
}

/// A sum of 32-bit words, as one of 16-bit words, in ones' complement.
#[inline(always)]
pub const fn fold_words(sum: u64) -> u16 {
    let sum = (sum & 0xffff_ffff) + (sum >> 32);
    fold((sum & 0xffff) as u32 + (sum >> 16 & 0xffff) as u32 + (sum >> 32) as u32)
}

/// The sum over the pseudo-header of a segment of `len` bytes, header and data (RFC 9293 section 3.1, RFC 8200 section 8.1), in the host's order: the
/// content of the checksum field of a packet whose checksum is unfinished (`CHECKSUM_PARTIAL`).
#[inline(always)]
pub const fn pseudo_header(addresses: &Addresses, len: u32) -> u16 {
    let words = match addresses {
        Addresses::V4(word) => [*word, 0, 0, 0],
        Addresses::V6(words) => *words,
    };
    let mut sum = 0_u64;
    let mut i = 0;
    while i < words.len() {
        sum += (words[i] & 0xffff_ffff) + (words[i] >> 32);
        i += 1;
    }
    // Those are words as they are on the wire; of the others each has its value.
    let wire = fold_words(sum);
    let rest = tcp::PROTOCOL as u32 + (len & 0xffff) + (len >> 16);
    fold(u16::from_be(wire) as u32 + rest)
}

#[cfg(test)]
mod tests {
    use std::vec::Vec;

    use super::*;

    /// The checksum over all bytes, anew.
    fn checksum(bytes: &[u8]) -> u16 {
        let words = bytes
            .chunks(2)
            .map(|word| u32::from(word[0]) << 8 | u32::from(*word.get(1).unwrap_or(&0)));
        let mut sum: u32 = words.sum();
        while sum > 0xffff {
            sum = (sum & 0xffff) + (sum >> 16);
        }
        !(sum as u16)
    }

    #[test]
    fn a_word_changes_as_its_bytes_do() {
        let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
        for at in 0..10_000 {
            seed = seed.wrapping_mul(0x5851_f42d_4c95_7f2d).wrapping_add(1);
            let (old, new, odd) = (seed, seed.rotate_left(23) ^ 0x1234, at % 2 == 1);
            let (mut word, mut bytes) = (Change::default(), Change::default());
            word.word(old, new, odd);
            for (index, (old, new)) in old
                .to_le_bytes()
                .into_iter()
                .zip(new.to_le_bytes())
                .enumerate()
            {
                bytes.byte(old, new, odd != (index % 2 == 1));
            }
            // 0 and 0xffff are the same sum, and make the same checksum unless all is zero.
            let same = word.sum() % 0xffff == bytes.sum() % 0xffff;
            assert!(same, "{old:x} {new:x} {odd}");
        }
    }

    #[test]
    fn a_change_in_place_is_as_good_as_a_new_sum() {
        let mut seed = 1_u32;
        let mut random = || {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            (seed >> 24) as u8
        };
        for _ in 0..10_000 {
            let before: Vec<u8> = (0..60).map(|_| random()).collect();
            let mut after = before.clone();
            let mut change = Change::default();
            let (from, len) = (usize::from(random() % 40), usize::from(random() % 21));
            for at in from..from + len {
                after[at] = random();
                change.byte(before[at], after[at], at % 2 == 1);
            }
            assert_eq!(change.apply(checksum(&before)), checksum(&after));
        }
    }
}
