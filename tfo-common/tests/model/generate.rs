//! Generators of option lists and frames that are valid enough to reach deep into the parser, and of corruptions.

use std::ops::Range;

use proptest::{collection::vec, prelude::*, sample::Index};

const MAX_OPTIONS: usize = 40;

/// An option with the length that its value needs.
fn option(kind: u8, value: &[u8]) -> Vec<u8> {
    let size = 2 + value.len() as u8;
    [&[kind, size], value].concat()
}

/// An option of IPv6, whose length is its value's.
fn ipv6_option(kind: u8, value: &[u8]) -> Vec<u8> {
    [&[kind, value.len() as u8], value].concat()
}

/// An option as a client may send it, or nearly.
fn any_option() -> impl Strategy<Value = Vec<u8>> {
    let value = |lengths: Range<usize>| vec(any::<u8>(), lengths);
    prop_oneof![
        2 => Just(vec![1]),
        1 => Just(vec![0]),
        1 => Just(option(2, &[5, 180])),
        1 => Just(option(4, &[])),
        1 => value(8..9).prop_map(|v| option(8, &v)),
        2 => Just(option(34, &[])),
        3 => value(8..9).prop_map(|v| option(34, &v)),
        3 => value(0..20).prop_map(|v| option(34, &v)),
        2 => value(0..20).prop_map(|v| option(254, &[&[0xf9, 0x89], &v[..]].concat())),
        1 => value(0..12).prop_map(|v| option(254, &v)),
        1 => value(0..12).prop_map(|v| option(253, &v)),
        1 => value(15..18).prop_map(|v| option(19, &v)),
        1 => value(2..8).prop_map(|v| option(29, &v)),
        1 => (any::<u8>(), value(0..12)).prop_map(|(kind, v)| option(kind, &v)),
        // A wrong length.
        1 => (prop_oneof![Just(34_u8), Just(254), any::<u8>()], 0..42_u8).prop_map(|(k, s)| vec![k, s]),
        1 => any::<u8>().prop_map(|kind| vec![kind]),
    ]
}

/// Linux's usual first options, or all of a Linux client that uses Fast Open, for which the parser has fast paths, or nearly
/// those.
fn linux() -> impl Strategy<Value = Vec<u8>> {
    let spoiled = prop::option::of((any::<Index>(), any::<u8>()));
    let fast_open = prop_oneof![
        Just(Vec::new()),
        Just([option(34, &[]), vec![1, 1]].concat()),
        any::<[u8; 8]>().prop_map(|cookie| [option(34, &cookie), vec![1, 1]].concat()),
    ];
    (any::<[u8; 11]>(), fast_open, spoiled).prop_map(|(v, fast_open, spoiled)| {
        let (segment, clock, scale) = (&v[..2], &v[2..10], &v[10..]);
        let mut list = [
            option(2, segment),
            option(4, &[]),
            option(8, clock),
            vec![1],
            option(3, scale),
            fast_open,
        ]
        .concat();
        if let Some((at, byte)) = spoiled {
            let at = at.index(list.len());
            list[at] = byte;
        }
        list
    })
}

/// A list of options, truncated at the header's maximum.
pub(crate) fn options() -> impl Strategy<Value = Vec<u8>> {
    prop_oneof![
        9 => vec(any_option(), 0..8).prop_map(|list| list.concat()),
        2 => linux(),
        2 => (linux(), vec(any_option(), 0..4)).prop_map(|(first, list)| [first, list.concat()].concat()),
        1 => vec(any::<u8>(), 0..=MAX_OPTIONS),
    ]
    .prop_map(|mut bytes| {
        bytes.truncate(MAX_OPTIONS);
        bytes
    })
}

/// A SYN's frame with correct lengths.
#[derive(Clone, Debug)]
pub(crate) struct Frame {
    pub(crate) bytes: Vec<u8>,
    /// Offset of the packet.
    pub(crate) packet: usize,
    /// Offset of the packet's end, where padding begins.
    pub(crate) end: usize,
}

/// Of a SYN that the kernel takes.
pub(crate) fn syn() -> impl Strategy<Value = Frame> {
    let noop = (0..=10_usize).prop_map(|words| vec![1; words * 4]);
    let unknown = (0..5_usize).prop_flat_map(|units| vec(any::<u8>(), units * 8 + 4));
    syn_with(
        noop.boxed(),
        unknown.prop_map(|value| ipv6_option(0x1e, &value)).boxed(),
    )
}

/// With any options in its IP header or behind it, malformed ones among them.
pub(crate) fn syn_with_any_options() -> impl Strategy<Value = Frame> {
    let noise = |units: usize, more| {
        (0..=units).prop_flat_map(move |units| vec(any::<u8>(), units * 8 + more))
    };
    let v4 = prop_oneof![4 => ipv4_options(), 1 => noise(5, 0)];
    let v6 = prop_oneof![9 => ipv6_options(), 1 => noise(5, 6)];
    syn_with(v4.boxed(), v6.boxed())
}

/// With these options in an IPv4 header, and these behind kind and length of an extension header.
fn syn_with(
    v4: BoxedStrategy<Vec<u8>>,
    v6: BoxedStrategy<Vec<u8>>,
) -> impl Strategy<Value = Frame> {
    let data = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..80)];
    let padding = prop_oneof![Just(Vec::new()), vec(any::<u8>(), 1..20)];
    let flags = prop_oneof![3 => Just(0x02), 1 => any::<u8>().prop_map(|bits| bits & 0xe8 | 0x02)];
    (
        tags(),
        network(v4, v6),
        any::<[u8; 24]>(),
        flags,
        options(),
        data,
        padding,
    )
        .prop_map(
            |(tags, network, noise, flags, mut options, data, padding)| {
                options.resize(options.len().next_multiple_of(4), 0);
                let offset = (5 + options.len() as u8 / 4) << 4;
                let (macs, start) = noise.split_at(12);
                let tail = [offset, flags, 250, 240, 0, 0, 0, 0];
                let tcp = [start, &tail, &options, &data].concat();
                let link = [macs, &tags, &network.ether_type()].concat();
                let packet = link.len();
                let mut bytes = [link, network.header(tcp.len()), tcp].concat();
                let end = bytes.len();
                bytes.extend(padding);
                Frame { bytes, packet, end }
            },
        )
}

/// Up to two VLAN tags, without the `EtherType` behind them.
fn tags() -> impl Strategy<Value = Vec<u8>> {
    let tag = (
        prop_oneof![Just([0x81, 0]), Just([0x88, 0xa8])],
        any::<[u8; 2]>(),
    );
    let tag = tag.prop_map(|(kind, vlan)| [kind, vlan].concat());
    let tags = vec(tag, 1..=2).prop_map(|tags| tags.concat());
    prop_oneof![3 => Just(Vec::new()), 1 => tags]
}

/// IPv4 options as a host may send them, or nearly.
fn ipv4_options() -> impl Strategy<Value = Vec<u8>> {
    let value = |lengths: Range<usize>| vec(any::<u8>(), lengths);
    // Pointers, and flags behind them, that may fit.
    let entries = (
        prop_oneof![Just(7_u8), Just(68)],
        0..24_u8,
        any::<u8>(),
        value(0..18),
    );
    let entries = entries.prop_map(|(kind, pointer, flags, rest)| {
        option(kind, &[&[pointer, flags], &rest[..]].concat())
    });
    let one = prop_oneof![
        4 => Just(vec![1]),
        1 => Just(vec![0]),
        4 => entries,
        1 => prop_oneof![Just(131_u8), Just(137)].prop_map(|kind| option(kind, &[4, 10, 0, 0, 1])),
        1 => value(0..4).prop_map(|v| option(148, &v)),
        2 => (any::<u8>(), value(0..12)).prop_map(|(kind, v)| option(kind, &v)),
        1 => any::<[u8; 2]>().prop_map(Vec::from),
    ];
    vec(one, 0..6).prop_map(|list| {
        let mut list = list.concat();
        list.resize(list.len().next_multiple_of(4).min(MAX_OPTIONS), 0);
        list
    })
}

/// IPv6 options in whole units behind kind and length of their header.
fn ipv6_options() -> impl Strategy<Value = Vec<u8>> {
    let value = |lengths: Range<usize>| vec(any::<u8>(), lengths);
    let one = prop_oneof![
        2 => Just(vec![0]),
        3 => (0..7_usize).prop_map(|len| ipv6_option(1, &vec![0; len])),
        1 => value(0..7).prop_map(|v| ipv6_option(1, &v)),
        1 => value(1..4).prop_map(|v| ipv6_option(5, &v)),
        1 => value(2..6).prop_map(|v| ipv6_option(49, &v)),
        3 => (0..0x40_u8, value(0..12)).prop_map(|(kind, v)| ipv6_option(kind, &v)),
        1 => (any::<u8>(), value(0..12)).prop_map(|(kind, v)| ipv6_option(kind, &v)),
        1 => any::<[u8; 2]>().prop_map(Vec::from),
    ];
    vec(one, 0..10).prop_map(|list| {
        let mut list = list.concat();
        match list.len() % 8 {
            6 => {}
            // Padding to the end, of one kind or the other.
            5 => list.push(0),
            len => list.extend(ipv6_option(1, &vec![0; (12 - len) % 8])),
        }
        list
    })
}

/// IPv6 extension headers that the parser skips: kind, and the bytes behind kind and length.
fn extensions(options: BoxedStrategy<Vec<u8>>) -> impl Strategy<Value = Vec<(u8, Vec<u8>)>> {
    let filled = |units: Range<usize>| units.prop_flat_map(|units| vec(any::<u8>(), units * 8 + 6));
    let routing = (filled(0..4), prop_oneof![Just(0), Just(1), 5..=255_u8]);
    let routing = routing.prop_map(|(mut value, kind)| {
        value[..2].copy_from_slice(&[kind, 0]);
        (43, value)
    });
    let fragment = any::<[u8; 4]>().prop_map(|id| (44, [&[0, 6], &id[..]].concat()));
    let destination = options.clone().prop_map(|value| match value.len() {
        0..=14 => (60, value),
        // It may have a home address.
        _ => (60, ipv6_option(1, &[0; 4])),
    });
    let first = prop::option::of(options.prop_map(|value| (0, value)));
    let others = vec(prop_oneof![routing, fragment, destination], 0..=5);
    (first, others).prop_map(|(first, others)| first.into_iter().chain(others).collect())
}

/// Kinds of IP header and what varies in them.
#[derive(Clone, Debug)]
enum Network {
    V4 {
        addresses: [u8; 8],
        options: Vec<u8>,
    },
    V6 {
        addresses: [u8; 32],
        extensions: Vec<(u8, Vec<u8>)>,
    },
}

impl Network {
    fn ether_type(&self) -> [u8; 2] {
        match self {
            Self::V4 { .. } => [0x08, 0x00],
            Self::V6 { .. } => [0x86, 0xdd],
        }
    }

    /// The IP header for `payload` bytes.
    fn header(&self, payload: usize) -> Vec<u8> {
        match self {
            Self::V4 { addresses, options } => {
                let header = 20 + options.len();
                let [high, low] = ((header + payload) as u16).to_be_bytes();
                let words = 0x40 | (header / 4) as u8;
                let fixed = [words, 0, high, low, 1, 2, 0x40, 0, 64, 6, 0, 0];
                [&fixed[..], addresses, options].concat()
            }
            Self::V6 {
                addresses,
                extensions,
            } => {
                let kinds: Vec<u8> = extensions
                    .iter()
                    .map(|(kind, _)| *kind)
                    .chain([6])
                    .collect();
                let mut behind = Vec::new();
                for ((kind, value), next) in extensions.iter().zip(&kinds[1..]) {
                    let units = if *kind == 44 { 0 } else { value.len() / 8 };
                    behind.extend([*next, units as u8]);
                    behind.extend(value);
                }
                let [high, low] = ((behind.len() + payload) as u16).to_be_bytes();
                let fixed = [0x60, 0, 0, 0, high, low, kinds[0], 64];
                [&fixed[..], addresses, &behind].concat()
            }
        }
    }
}

fn network(
    v4: BoxedStrategy<Vec<u8>>,
    v6: BoxedStrategy<Vec<u8>>,
) -> impl Strategy<Value = Network> {
    let extensions = prop_oneof![Just(Vec::new()), extensions(v6)];
    prop_oneof![
        any::<[u8; 8]>().prop_map(|addresses| Network::V4 {
            addresses,
            options: Vec::new()
        }),
        (any::<[u8; 8]>(), v4).prop_map(|(addresses, options)| Network::V4 { addresses, options }),
        (any::<[u8; 32]>(), extensions).prop_map(|(addresses, extensions)| Network::V6 {
            addresses,
            extensions
        }),
    ]
}

/// A SYN with a few corrupted bytes, mostly in the headers.
pub(crate) fn spoiled_syn() -> impl Strategy<Value = Vec<u8>> {
    let at = prop_oneof![1 => any::<Index>().prop_map(Ok), 3 => (12..80_usize).prop_map(Err)];
    let change = prop_oneof![
        any::<u8>().prop_map(|byte| (0, byte)),
        (0..8).prop_map(|bit| (0xff, 1_u8 << bit)),
    ];
    (syn(), vec((at, change), 1..4)).prop_map(|(frame, changes)| {
        let mut bytes = frame.bytes;
        for (at, (keep, flip)) in changes {
            let at = at.map_or_else(|at| at % bytes.len(), |index| index.index(bytes.len()));
            bytes[at] = bytes[at] & keep ^ flip;
        }
        bytes
    })
}

/// Random bytes, mostly with an `EtherType` that the parser knows.
pub(crate) fn noise() -> impl Strategy<Value = Vec<u8>> {
    let ether_type = prop_oneof![
        4 => Just([0x08, 0x00]),
        4 => Just([0x86, 0xdd]),
        1 => Just([0x81, 0x00]),
        1 => any::<[u8; 2]>(),
    ];
    (vec(any::<u8>(), 0..160), ether_type).prop_map(|(mut bytes, ether_type)| {
        if let Some(place) = bytes.get_mut(12..14) {
            place.copy_from_slice(&ether_type);
        }
        bytes
    })
}
