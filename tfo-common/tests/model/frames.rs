//! Frames: the parser against the second implementation.

use proptest::prelude::*;
use tfo_common::wire::{self, Link, NotSyn};

use crate::{generate, naive};

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn agree_on_a_syn(frame in generate::syn()) {
        let syn = wire::syn::parse(&frame.bytes[..]);
        prop_assert!(syn.is_ok());
        prop_assert_eq!(syn, naive::frame(&frame.bytes));
    }

    #[test]
    fn agree_on_a_spoiled_syn(bytes in generate::spoiled_syn()) {
        prop_assert_eq!(wire::syn::parse(&bytes[..]), naive::frame(&bytes));
    }

    /// A SYN without the Ethernet header parses to the same SYN, with offsets reduced by the header's length.
    #[test]
    fn agree_on_bare_packets(frame in generate::syn(), spoiled in generate::spoiled_syn()) {
        let packet = &frame.bytes[frame.packet..];
        let read = wire::syn::parse_behind(packet, Link::None);
        let shifted = read.map(|mut syn| {
            syn.layout.network += frame.packet as u8;
            syn.layout.tcp += frame.packet as u16;
            syn
        });
        prop_assert_eq!(shifted, wire::syn::parse(&frame.bytes[..]));
        prop_assert_eq!(read, naive::bare(packet));
        let spoiled = spoiled.get(14..).unwrap_or_default();
        prop_assert_eq!(wire::syn::parse_behind(spoiled, Link::None), naive::bare(spoiled));
    }

    /// A frame that `is_none_at_sight` rules out is no SYN to the parser.
    #[test]
    fn agree_at_sight(bytes in generate::spoiled_syn(), len: prop::sample::Index) {
        let cut = &bytes[..len.index(bytes.len() + 1)];
        if wire::syn::is_none_at_sight(cut) {
            prop_assert_eq!(wire::syn::parse(cut), Err(NotSyn::Other));
        }
    }

    /// A SYN is not passed over, and the same segment with other flags is, where its headers are plain.
    #[test]
    fn other_flags_are_seen_at_sight(frame in generate::syn()) {
        prop_assert!(!wire::syn::is_none_at_sight(&frame.bytes[..]));
        let layout = wire::syn::parse(&frame.bytes[..]).unwrap().layout;
        let (network, tcp) = (usize::from(layout.network), usize::from(layout.tcp));
        let version = frame.bytes[network] >> 4;
        let is_plain = network == 14 && [(4, 20), (6, 40)].contains(&(version, tcp - network));
        let mut ack = frame.bytes.clone();
        ack[tcp + 13] = 0x10;
        prop_assert_eq!(wire::syn::is_none_at_sight(&ack[..]), is_plain);
    }

    #[test]
    fn agree_on_noise(bytes in generate::noise()) {
        prop_assert_eq!(wire::syn::parse(&bytes[..]), naive::frame(&bytes));
    }

    /// A truncated packet is never a SYN; padding has no effect.
    #[test]
    fn agree_on_a_syn_cut_at_every_length(frame in generate::syn()) {
        let whole = wire::syn::parse(&frame.bytes[..]);
        for len in 0..=frame.bytes.len() {
            let cut = &frame.bytes[..len];
            let read = wire::syn::parse(cut);
            prop_assert_eq!(read, naive::frame(cut));
            prop_assert_eq!(read, if len < frame.end { Err(NotSyn::Unparsed) } else { whole });
        }
    }

    #[test]
    fn agree_on_a_spoiled_syn_cut_anywhere(bytes in generate::spoiled_syn(), len: prop::sample::Index) {
        let cut = &bytes[..len.index(bytes.len())];
        prop_assert_eq!(wire::syn::parse(cut), naive::frame(cut));
    }
}
