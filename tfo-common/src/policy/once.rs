//! Memory of the data of earlier SYNs: two Bloom filters that take turns, in one map that all CPUs
//! share.
//!
//! A filter is written to for one epoch, the lifetime that the operator chose, and read for one
//! more: data is remembered for one to two lifetimes. A SYN concerns one word of each filter, and
//! both words are in one line of the map. A word carries the number of its epoch; one of another
//! epoch is empty, so that no filter has to be cleared, and none depends on the controller.

use crate::{
    atomic::AtomicWord,
    fastopen::Key,
    numbered::numbered,
    wire::{
        addresses::{Address, Addresses},
        syn::Syn,
    },
};

numbered! {
    /// The properties by which two SYNs with data are the same.
    #[derive(Default)]
    pub enum OnceBy: u8 else Duplicate {
        /// Addresses, ports, sequence number and the data's first 16 bytes: a copy of the segment.
        #[default]
        Duplicate = "duplicate",
        /// The client's address and the data's first 64 bytes, which hold the random of a TLS `ClientHello`.
        Content = "content",
    }
}

/// Words of a SYN's data that count.
pub const DATA_WORDS: usize = 8;

/// The first bytes of a SYN's data, in little-endian words, zeroes behind its end.
pub type SynData = [u64; DATA_WORDS];

/// Words of a line that one filter has.
const WORDS: u64 = 4;
/// Bits of a word that belong to the filter; above them is the number of its epoch, modulo 256.
const BITS: u32 = 56;
/// Bits that a SYN sets.
const HASHES: u32 = 7;

/// Settings of the memory: entry 0 of the map [`crate::abi::ONCE`]. As long as an [`OnceLine`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct OnceHead {
    /// Nanoseconds of an epoch, not 0.
    pub lifetime: u64,
    /// The entries behind this one; 0 where no rule needs them.
    pub lines: u64,
    /// SYNs that each filter is to hold; for the controller.
    pub capacity: u64,
    /// Halves of the key of the hash: nobody else can tell which SYNs share bits.
    pub key: [u64; 2],
    /// Zero.
    pub reserved: [u64; 3],
}

/// The words of SYNs that hash to the same line: any other entry of the map.
#[derive(Default)]
#[repr(C, align(64))]
pub struct OnceLine {
    /// Those of the filter of even epochs, then those of odd ones.
    words: [AtomicWord; 2 * WORDS as usize],
}

/// The keyed hash of what makes a SYN the same as another.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fingerprint(u64);

impl OnceHead {
    /// No memory.
    pub const NONE: Self = Self {
        lifetime: 0,
        lines: 0,
        capacity: 0,
        key: [0; 2],
        reserved: [0; 3],
    };
    /// SYNs that each filter holds per line, so that at most one in 5,000 of the SYNs that never came is taken for one that
    /// did.
    pub const SYNS_PER_LINE: u64 = WORDS;

    /// The fingerprint of `syn`, whose data begins with `data`.
    #[inline(always)]
    pub fn fingerprint(&self, by: OnceBy, syn: &Syn, data: &SynData) -> Fingerprint {
        let key = Key::from_words(self.key[0], self.key[1]);
        let [d0, d1, d2, d3, d4, d5, d6, d7] = *data;
        Fingerprint(match by {
            OnceBy::Duplicate => {
                let connection = u64::from(syn.ports) << 32 | u64::from(syn.sequence);
                match &syn.addresses {
                    Addresses::V4(both) => key.siphash(&[*both, connection, d0, d1]),
                    Addresses::V6([a, b, c, d]) => {
                        key.siphash(&[*a, *b, *c, *d, connection, d0, d1])
                    }
                }
            }
            OnceBy::Content => {
                let Address([a, b]) = Address::source(&syn.addresses);
                key.siphash(&[a, b, d0, d1, d2, d3, d4, d5, d6, d7])
            }
        })
    }

    /// The entry of `fingerprint`'s line.
    #[inline(always)]
    pub const fn entry(&self, fingerprint: Fingerprint) -> u32 {
        // The upper half, scaled to the number of lines.
        (1 + (((fingerprint.0 >> 32) * self.lines) >> 32)) as u32
    }

    /// The epoch at `now`, in nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub const fn epoch(&self, now: u64) -> u64 {
        match now.checked_div(self.lifetime) {
            Some(epoch) => epoch,
            None => 0,
        }
    }
}

impl Fingerprint {
    /// The bits that it sets in its word.
    #[inline(always)]
    const fn bits(self) -> u64 {
        // The entry and the word take 34 bits of the hash: the product has the others in its upper bits, too.
        let mut mixed = self.0.wrapping_mul(0x9e37_79b9_7f4a_7c15);
        let (mut bits, mut hash) = (0, 0);
        while hash < HASHES {
            bits |= 1 << (((mixed >> 55) * BITS as u64) >> 9);
            mixed <<= 9;
            hash += 1;
        }
        bits
    }
}

impl OnceLine {
    /// Remembers a SYN of this line in `epoch`. `true` if it came before: in this epoch or the one before it.
    ///
    /// Of copies that come at once, on different CPUs, exactly one is the first: one atomic operation reads and sets all
    /// bits. Where the epoch ends between two of them, each sets its bits before it reads the other filter, so that at least
    /// one finds the other. For `barrier` see [`crate::wire::Frame::barrier_var`].
    #[inline(always)]
    pub fn came_before(
        &self,
        fingerprint: Fingerprint,
        epoch: u64,
        barrier: impl Fn(u64) -> u64,
    ) -> bool {
        let (word, bits) = (fingerprint.0 % WORDS, fingerprint.bits());
        let word = |filter| self.word(barrier(filter * WORDS + word));
        let known = set(word(epoch % 2), epoch, bits);
        let other = word((epoch % 2) ^ 1).load();
        let adjacent = is_of(other, epoch.wrapping_sub(1)) || is_of(other, epoch.wrapping_add(1));
        known || (adjacent && other & bits == bits)
    }

    #[inline(always)]
    fn word(&self, index: u64) -> &AtomicWord {
        // The remainder changes nothing. It shows the verifier, which does not follow the index, that it is in bounds.
        &self.words[(index % (2 * WORDS)) as usize]
    }
}

/// A word of this epoch without bits.
#[inline(always)]
const fn empty(epoch: u64) -> u64 {
    epoch << BITS
}

#[inline(always)]
const fn is_of(word: u64, epoch: u64) -> bool {
    (word ^ empty(epoch)) >> BITS == 0
}

/// Sets `bits` in a word of `epoch`. `true` if they were set before.
#[inline(always)]
fn set(word: &AtomicWord, epoch: u64, bits: u64) -> bool {
    let before = word.load();
    if !is_of(before, epoch) {
        let found = word.compare_exchange(before, empty(epoch) | bits);
        if found == before {
            return false;
        }
        // Another CPU began the epoch.
    }
    word.fetch_or(bits) & bits == bits
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are settings.
#[cfg(feature = "user")]
unsafe impl aya::Pod for OnceHead {}

#[cfg(test)]
mod tests {
    use std::{collections::HashSet, thread, vec::Vec};

    use proptest::prelude::*;

    use super::*;
    use crate::wire::{options::fast_open::PackedOptions, syn::Layout};

    const LIFETIME: u64 = 1000;

    struct Memory {
        head: OnceHead,
        lines: Vec<OnceLine>,
    }

    impl Memory {
        fn new(lines: u64) -> Self {
            Self {
                head: OnceHead {
                    lifetime: LIFETIME,
                    lines,
                    capacity: lines * OnceHead::SYNS_PER_LINE,
                    key: [1, 2],
                    ..OnceHead::NONE
                },
                lines: (0..lines).map(|_| OnceLine::default()).collect(),
            }
        }

        fn came_before(&self, fingerprint: Fingerprint, now: u64) -> bool {
            let line = &self.lines[self.head.entry(fingerprint) as usize - 1];
            line.came_before(fingerprint, self.head.epoch(now), |index| index)
        }
    }

    /// Well spread, as the hash is.
    fn fingerprints(seed: u64) -> impl Iterator<Item = Fingerprint> {
        (0..).map(move |number| Fingerprint(Key::from_words(seed, 0).siphash(&[number])))
    }

    fn syn(addresses: Addresses, ports: u32, sequence: u32) -> Syn {
        Syn {
            addresses,
            ports,
            sequence,
            data_len: 100,
            options: PackedOptions::NONE,
            layout: Layout::NONE,
        }
    }

    proptest! {
        /// Nothing is forgotten within a lifetime, whatever else comes.
        #[test]
        fn what_came_within_a_lifetime_is_known(
            seed: u64,
            steps in proptest::collection::vec((0_usize..300, 0_u64..50), 1..400),
        ) {
            let memory = Memory::new(16);
            let known: Vec<_> = fingerprints(seed).take(300).collect();
            let mut last = std::collections::HashMap::new();
            let mut now = 5 * LIFETIME;
            for (which, pause) in steps {
                now += pause;
                let before = memory.came_before(known[which], now);
                if let Some(then) = last.insert(which, now) {
                    prop_assert!(before || now - then > LIFETIME);
                }
            }
        }

        /// Each thread meets the same SYNs at about the same time; where an epoch ends, it has not ended for all.
        #[test]
        fn of_copies_at_once_at_most_one_is_the_first(seed: u64, at in LIFETIME - 2..LIFETIME + 2) {
            let memory = Memory::new(4096);
            let each: Vec<_> = fingerprints(seed).take(64).collect();
            let (memory, each) = (&memory, &each);
            let firsts = move |late: u64| {
                let first = |fingerprint: &&Fingerprint| !memory.came_before(**fingerprint, at + late);
                each.iter().filter(first).map(|fingerprint| fingerprint.0).collect::<Vec<_>>()
            };
            let firsts = thread::scope(|scope| {
                let threads: Vec<_> = (0..4).map(|late| scope.spawn(move || firsts(late % 2))).collect();
                threads.into_iter().flat_map(|it| it.join().unwrap()).collect::<Vec<_>>()
            });
            let distinct: HashSet<_> = firsts.iter().collect();
            prop_assert_eq!(distinct.len(), firsts.len());
        }

        #[test]
        fn a_copy_has_the_same_fingerprint_and_nothing_else(
            v6: bool, words: [u64; 4], ports: u32, sequence: u32, data: SynData, other in 1_u64..,
        ) {
            let head = Memory::new(1).head;
            let addresses = |words: [u64; 4]| {
                if v6 { Addresses::V6(words) } else { Addresses::V4(words[0]) }
            };
            let [a, b, c, d] = words;
            let here = syn(addresses(words), ports, sequence);
            let of = |by, syn: &Syn, data: &SynData| head.fingerprint(by, syn, data);
            let far = data.map(|word| word ^ other);
            for by in OnceBy::ALL {
                let same = of(by, &here, &data);
                prop_assert_eq!(same, of(by, &here, &data));
                let elsewhere = syn(addresses([a ^ 1, b, c, d]), ports, sequence);
                prop_assert_ne!(same, of(by, &elsewhere, &data));
                prop_assert_ne!(same, of(by, &here, &far));
                // Another connection with the same content.
                for again in [
                    syn(addresses(words), ports ^ 1, sequence),
                    syn(addresses(words), ports, sequence ^ 1),
                ] {
                    prop_assert_eq!(same == of(by, &again, &data), by == OnceBy::Content);
                }
            }
        }
    }

    #[test]
    fn all_is_forgotten_after_two_lifetimes() {
        let memory = Memory::new(4096);
        let mut known = fingerprints(1).take(1000);
        assert!(known.all(|each| !memory.came_before(each, 0)));
        let mut known = fingerprints(1).take(1000);
        assert!(known.all(|each| !memory.came_before(each, 2 * LIFETIME)));
    }

    #[test]
    fn at_capacity_no_more_than_one_in_5000_is_taken_for_another() {
        let lines = 1 << 16;
        let memory = Memory::new(lines);
        let capacity = (lines * OnceHead::SYNS_PER_LINE) as usize;
        let mut all = fingerprints(7);
        for epoch in 0..2 {
            let now = epoch * LIFETIME;
            all.by_ref()
                .take(capacity)
                .for_each(|each| _ = memory.came_before(each, now));
        }
        // Read only: what is tried would fill the filter further.
        let wrong = all.take(200_000).filter(|fingerprint| {
            let line = &memory.lines[memory.head.entry(*fingerprint) as usize - 1];
            let bits = fingerprint.bits();
            let mut both = [0, WORDS].into_iter();
            both.any(|of| line.word(of + fingerprint.0 % WORDS).load() & bits == bits)
        });
        let wrong = wrong.count();
        std::println!("{wrong} of 200,000");
        assert!(wrong < 40, "{wrong} of 200,000");
    }

    #[test]
    fn settings_fill_one_line() {
        assert_eq!(size_of::<OnceHead>(), size_of::<OnceLine>());
    }
}
