//! Outcomes and their counters: the classifier against the second implementation.

use proptest::{collection::vec, prelude::*, sample::Index};
use tfo_common::{
    classify::{Classification, Outcome, socket::Socket},
    context::SynContext,
    counters::{Counter, Counters},
    fastopen::{Cookie, Key, KeySet},
    switches::Switches,
    wire::{
        addresses::Addresses,
        options::fast_open::{FastOpen, OptionPlace, PackedOptions, SynOptions},
        syn::{Layout, Syn},
    },
};

use crate::{generate, naive};

fn addresses() -> impl Strategy<Value = Addresses> {
    prop_oneof![
        any::<([u8; 4], [u8; 4])>().prop_map(|(from, to)| Addresses::v4(from, to)),
        any::<([u8; 16], [u8; 16])>().prop_map(|(from, to)| Addresses::v6(from, to)),
    ]
}

/// The cookie of a generated SYN.
#[derive(Clone, Copy, Debug)]
enum Draw {
    Said(FastOpen),
    /// A cookie under one of the keys, with these bits flipped.
    Issued(Index, u64),
}

fn draw() -> impl Strategy<Value = Draw> {
    prop_oneof![
        Just(Draw::Said(FastOpen::Absent)),
        Just(Draw::Said(FastOpen::Request)),
        Just(Draw::Said(FastOpen::BadLength)),
        any::<[u8; 8]>().prop_map(|c| Draw::Said(FastOpen::Cookie(Cookie::from_bytes(c)))),
        any::<Index>().prop_map(|key| Draw::Issued(key, 0)),
        (any::<Index>(), 0..64).prop_map(|(key, bit)| Draw::Issued(key, 1_u64 << bit)),
    ]
}

fn syn(keys: &[[u8; 16]], addresses: Addresses, draw: Draw, flags: (bool, bool)) -> Syn {
    let fast_open = match draw {
        Draw::Said(said) => said,
        Draw::Issued(_, _) if keys.is_empty() => FastOpen::Absent,
        Draw::Issued(key, flip) => {
            let issued = naive::issue(&keys[key.index(keys.len())], &addresses);
            let bits = u64::from_le_bytes(issued) ^ flip;
            FastOpen::Cookie(Cookie::from_bytes(bits.to_le_bytes()))
        }
    };
    Syn {
        addresses,
        ports: 443_u32.swap_bytes(),
        sequence: 1,
        data_len: 0,
        options: PackedOptions::pack(
            &SynOptions {
                fast_open,
                experimental: flags.0 && fast_open != FastOpen::Absent,
                malformed: flags.1,
                ..SynOptions::NONE
            },
            OptionPlace::NONE,
        ),
        layout: Layout::NONE,
    }
}

fn key_set(keys: &[[u8; 16]]) -> KeySet {
    KeySet::new(keys.iter().copied().map(Key::from_bytes)).unwrap()
}

/// The outcome without a socket.
fn outcome<'a>(syn: &Syn, keys: impl FnOnce() -> Option<&'a KeySet>) -> Outcome {
    Classification::of(syn, &Socket::Unknown, keys).outcome(syn)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn agree(
        keys in vec(any::<[u8; 16]>(), 0..=KeySet::MAX),
        addresses in addresses(),
        draw in draw(),
        flags: (bool, bool),
        data_len in prop_oneof![Just(0), Just(1), 2..100_000_u32],
    ) {
        let syn = Syn { data_len, ..syn(&keys, addresses, draw, flags) };
        let set = key_set(&keys);
        let context = SynContext {
            classification: Classification::of(&syn, &Socket::Unknown, || Some(&set)),
            ..SynContext::new(syn, Switches::OFF)
        };
        let outcome = context.outcome();
        prop_assert_eq!(outcome, naive::outcome(&syn, &keys));

        let mut counters = Counters::default();
        context.count(&mut counters);
        for counter in Counter::ALL {
            prop_assert_eq!(counters.get(counter), naive::counts(counter, &syn, outcome), "{}", counter.name());
        }
    }

    /// A missing map entry accepts nothing, as an empty set does.
    #[test]
    fn no_set_is_an_empty_set(addresses in addresses(), draw in draw(), flags: (bool, bool)) {
        let syn = syn(&[[7; 16]], addresses, draw, flags);
        prop_assert_eq!(outcome(&syn, || None), naive::outcome(&syn, &[]));
        prop_assert_eq!(outcome(&syn, || Some(&KeySet::EMPTY)), naive::outcome(&syn, &[]));
    }

    /// From frame bytes to outcome.
    #[test]
    fn the_whole_way_agrees(frame in generate::spoiled_syn(), keys in vec(any::<[u8; 16]>(), 0..=KeySet::MAX)) {
        let set = key_set(&keys);
        if let Ok(syn) = tfo_common::wire::syn::parse(&frame[..]) {
            prop_assert_eq!(outcome(&syn, || Some(&set)), naive::outcome(&syn, &keys));
        }
    }
}

/// The key set is fetched only to check a cookie.
#[test]
fn keys_are_not_fetched_without_need() {
    let addresses = Addresses::v4([192, 0, 2, 1], [192, 168, 0, 1]);
    for said in [FastOpen::Absent, FastOpen::Request, FastOpen::BadLength] {
        let syn = syn(&[], addresses, Draw::Said(said), (false, false));
        outcome(&syn, || panic!("{said:?} needs no key"));
    }
}
