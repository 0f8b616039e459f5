//! Frames: the parser against the second implementation.

use proptest::prelude::*;
use tfo_common::wire::{
    self, Link, NotSyn,
    syn::{Sight, at_sight},
};

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
    fn agree_on_any_options_of_ip(frame in generate::syn_with_any_options()) {
        prop_assert_eq!(wire::syn::parse(&frame.bytes[..]), naive::frame(&frame.bytes));
    }

    #[test]
    fn agree_on_a_spoiled_syn(bytes in generate::spoiled_syn()) {
        prop_assert_eq!(wire::syn::parse(&bytes[..]), naive::frame(&bytes));
    }

    /// A SYN without the Ethernet header parses to the same SYN, with offsets reduced by the header's length.
    #[test]
    fn agree_on_bare_packets(frame in generate::syn(), spoiled in generate::spoiled_syn()) {
        let packet = &frame.bytes[frame.packet..];
        let read = wire::syn::parse_behind(packet, Link::None, Sight::Unclear);
        let shifted = read.map(|mut syn| {
            syn.layout.network += frame.packet as u8;
            syn.layout.tcp += frame.packet as u16;
            syn
        });
        prop_assert_eq!(shifted, wire::syn::parse(&frame.bytes[..]));
        prop_assert_eq!(read, naive::bare(packet));
        let spoiled = spoiled.get(14..).unwrap_or_default();
        let read = wire::syn::parse_behind(spoiled, Link::None, Sight::Unclear);
        prop_assert_eq!(read, naive::bare(spoiled));
    }

    /// The parser says of a frame what it says of the same frame after a first sight.
    #[test]
    fn agree_at_sight(bytes in generate::spoiled_syn(), len: prop::sample::Index) {
        let cut = &bytes[..len.index(bytes.len() + 1)];
        let (sight, parsed) = (at_sight(cut), wire::syn::parse(cut));
        if matches!(sight, Sight::NotSyn) {
            prop_assert_eq!(parsed, Err(NotSyn::Other));
        } else {
            prop_assert_eq!(wire::syn::parse_behind(cut, Link::Ethernet, sight), parsed);
        }
    }

    /// A SYN and the same segment with other flags are told apart at sight, where their headers are plain.
    #[test]
    fn flags_are_seen_at_sight(frame in generate::syn()) {
        let sight = at_sight(&frame.bytes[..]);
        let parsed = wire::syn::parse_behind(&frame.bytes[..], Link::Ethernet, sight);
        prop_assert_eq!(parsed, wire::syn::parse(&frame.bytes[..]));
        let layout = parsed.unwrap().layout;
        let (network, tcp) = (usize::from(layout.network), usize::from(layout.tcp));
        let version = frame.bytes[network] >> 4;
        let is_plain = network == 14 && [(4, 20), (6, 40)].contains(&(version, tcp - network));
        let mut ack = frame.bytes.clone();
        ack[tcp + 13] = 0x10;
        prop_assert_eq!(matches!(sight, Sight::Syn(_)), is_plain);
        prop_assert_eq!(matches!(at_sight(&ack[..]), Sight::NotSyn), is_plain);
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
