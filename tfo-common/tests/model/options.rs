//! Option lists: the parser against the second implementation.

use proptest::{collection::vec, prelude::*};
use tfo_common::wire::options::fast_open::{self, FastOpen, OptionPlace, SynOptions};

use crate::{generate, naive};

/// Parses options of a SYN with data. `around` is the byte before and the byte behind them.
fn read(bytes: &[u8], around: [u8; 2]) -> (SynOptions, OptionPlace) {
    let [before, behind] = around.map(|byte| [byte; 40]);
    let frame = [&before, bytes, &behind].concat();
    fast_open::parse(&frame[..], before.len(), bytes.len(), true)
}

/// All lists of up to six meaningful bytes.
#[test]
fn agree_on_every_short_list() {
    let alphabet = [0, 1, 2, 3, 4, 6, 34, 254, 0xf9, 0x89];
    for len in 0..=6 {
        let mut bytes = vec![0; len];
        for mut number in 0..alphabet.len().pow(len as u32) {
            for byte in &mut bytes {
                *byte = alphabet[number % alphabet.len()];
                number /= alphabet.len();
            }
            assert_eq!(
                read(&bytes, [34, 2]),
                naive::both(&bytes, true),
                "{bytes:?}"
            );
        }
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn agree(bytes in generate::options(), around: [u8; 2]) {
        prop_assert_eq!(read(&bytes, around), naive::both(&bytes, true));
        prop_assert_eq!(fast_open::parse(&bytes[..], 0, bytes.len(), false), naive::both(&bytes, false));
    }

    #[test]
    fn agree_when_cut_at_every_length(bytes in generate::options(), around: [u8; 2]) {
        for len in 0..bytes.len() {
            prop_assert_eq!(read(&bytes[..len], around), naive::both(&bytes[..len], true));
        }
    }

    /// The caller's preconditions violated: offset and length outside the frame.
    #[test]
    fn any_place_is_survived(frame in vec(any::<u8>(), 0..80), start in 0..100_usize, len: usize) {
        fast_open::parse(&frame[..], start, len, true);
    }
}

/// The generated lists reach every branch of the parser.
#[test]
fn generated_lists_say_everything() {
    use proptest::{strategy::ValueTree as _, test_runner::TestRunner};

    let mut runner = TestRunner::deterministic();
    let mut seen = [0; 11];
    for _ in 0..3000 {
        let bytes = generate::options().new_tree(&mut runner).unwrap().current();
        let (options, place) = read(&bytes, [0; 2]);
        seen[match options.fast_open {
            FastOpen::Absent => 0,
            FastOpen::Request => 1,
            FastOpen::Cookie(_) => 2,
            FastOpen::BadLength => 3,
        }] += 1;
        seen[4] += u32::from(options.experimental);
        seen[5] += u32::from(options.malformed && options.fast_open != FastOpen::Absent);
        seen[6] += u32::from(options.tsval.is_some());
        seen[7] += u32::from(options.signatures.fault > 18);
        seen[8] += u32::from(options.signatures.md5 > 0);
        seen[9] += u32::from(options.signatures.ao > 0);
        seen[10] += u32::from(!place.sole);
    }
    assert!(seen.iter().all(|count| *count > 50), "{seen:?}");
}
