//! SipHash-2-4 with 64-bit output (Aumasson, Bernstein: "SipHash: a fast short-input PRF", 2012),
//! for messages of whole 64-bit words. Linux: `lib/siphash.c`.

/// SipHash-2-4 of `words` (in little-endian order, as the message's bytes) under the key `(k0, k1)`.
#[inline(always)]
pub(super) fn siphash_2_4<const N: usize>(k0: u64, k1: u64, words: &[u64; N]) -> u64 {
    let mut state = State {
        v0: k0 ^ 0x736f_6d65_7073_6575,
        v1: k1 ^ 0x646f_7261_6e64_6f6d,
        v2: k0 ^ 0x6c79_6765_6e65_7261,
        v3: k1 ^ 0x7465_6462_7974_6573,
    };
    for word in words {
        state.compress(*word);
    }
    // The last word holds the message's length modulo 256 in its top byte, and no byte of it.
    state.compress((8 * N as u64) << 56);
    state.finish()
}

struct State {
    v0: u64,
    v1: u64,
    v2: u64,
    v3: u64,
}

impl State {
    #[inline(always)]
    const fn compress(&mut self, word: u64) {
        self.v3 ^= word;
        self.round();
        self.round();
        self.v0 ^= word;
    }

    #[inline(always)]
    const fn finish(mut self) -> u64 {
        self.v2 ^= 0xff;
        self.round();
        self.round();
        self.round();
        self.round();
        self.v0 ^ self.v1 ^ self.v2 ^ self.v3
    }

    #[inline(always)]
    const fn round(&mut self) {
        self.v0 = self.v0.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(13) ^ self.v0;
        self.v0 = self.v0.rotate_left(32);
        self.v2 = self.v2.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(16) ^ self.v2;
        self.v0 = self.v0.wrapping_add(self.v3);
        self.v3 = self.v3.rotate_left(21) ^ self.v0;
        self.v2 = self.v2.wrapping_add(self.v1);
        self.v1 = self.v1.rotate_left(17) ^ self.v2;
        self.v2 = self.v2.rotate_left(32);
    }
}

#[cfg(test)]
mod tests {
    use core::hash::Hasher;

    use proptest::prelude::*;
    use siphasher::sip::SipHasher24;

    use super::*;

    fn reference<const N: usize>(k0: u64, k1: u64, words: &[u64; N]) -> u64 {
        let mut hasher = SipHasher24::new_with_keys(k0, k1);
        for word in words {
            hasher.write(&word.to_le_bytes());
        }
        hasher.finish()
    }

    proptest! {
        #[test]
        fn agrees_with_the_reference(k0: u64, k1: u64, short: [u64; 1], long: [u64; 4]) {
            prop_assert_eq!(siphash_2_4(k0, k1, &short), reference(k0, k1, &short));
            prop_assert_eq!(siphash_2_4(k0, k1, &long), reference(k0, k1, &long));
        }
    }
}
