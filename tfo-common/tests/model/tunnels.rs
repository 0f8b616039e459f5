//! Tunnels: the parser against a second implementation, which unwraps a frame and reads what was in it.

use proptest::{collection::vec, prelude::*, sample::Index};
use tfo_common::wire::{
    self, Link,
    NotSyn::{self, Other, Unparsed},
    syn::{Arrived, Sight, parse_through},
    tunnel::Decap,
};

use crate::{generate, naive};

const ETHERNET: usize = 14;
const FOU: u16 = 5555;
const GUE: u16 = 6080;

const ALL: Decap = Decap {
    protocols: Decap::IPIP | Decap::GRE | Decap::UDP,
    ports: [0, FOU as u32, 0, GUE as u32 | Decap::GUE],
    ..Decap::OFF
};

fn number(bytes: &[u8]) -> usize {
    let next = |number, byte: &u8| number << 8 | usize::from(*byte);
    bytes.iter().fold(0, next)
}

/// The offset of the packet in the tunnel whose outer packet is `packet`, and whether it is an IPv6 one. `None`: no tunnel.
fn unwrap(packet: &[u8], is_v6: bool) -> Result<Option<(usize, bool)>, NotSyn> {
    let fixed = packet.get(..if is_v6 { 40 } else { 20 }).ok_or(Unparsed)?;
    let wanted = |protocol| [4, 17, 41, 47].contains(&protocol);
    let (protocol, at, end, traffic_class, fragment) = if is_v6 {
        let class = (number(&fixed[..2]) >> 4 & 0xff) as u8;
        let end = 40 + number(&fixed[4..6]);
        match fixed[6] {
            kind @ (44 | 60) => {
                let header = packet.get(40..48).ok_or(Unparsed)?;
                let fragment = (kind == 44).then(|| number(&header[2..4]) / 8);
                if kind == 60 && header[1] != 0 {
                    return Ok(None);
                }
                (header[0], 48, end, class, fragment)
            }
            protocol => (protocol, 40, end, class, None),
        }
    } else {
        let fragment = number(&fixed[6..8]);
        let (offset, more) = (fragment % 0x2000, fragment & 0x2000 != 0);
        let fragment = (offset > 0 || more).then_some(offset);
        let words = usize::from(fixed[0] % 16);
        if words < 5 || fixed[0] / 16 != 4 {
            return Ok(None);
        }
        (
            fixed[9],
            words * 4,
            number(&fixed[2..4]),
            fixed[1],
            fragment,
        )
    };
    if !wanted(protocol) {
        return Ok(None);
    }
    let rest = packet.get(at..).unwrap_or_default();
    let port = rest.get(..8).map(|udp| number(&udp[2..4]) as u16);
    let is_tunnel = protocol != 17 || [Some(FOU), Some(GUE)].contains(&port);
    if let Some(offset) = fragment {
        let is_unread = protocol != 17 || offset == 0 && is_tunnel;
        return if is_unread { Err(Unparsed) } else { Ok(None) };
    }
    if is_v6 && fixed[0] / 16 != 6 || !is_tunnel {
        return Ok(None);
    }
    let (front, is_inner_v6) = match (protocol, port) {
        (4, _) => (0, false),
        (41, _) => (0, true),
        (47, _) => gre(rest)?,
        (_, port) => {
            let (front, is_inner_v6) = in_udp(&rest[8..], port == Some(GUE))?;
            (8 + front, is_inner_v6)
        }
    };
    let at = at + front;
    check(packet, at, is_inner_v6, end, traffic_class % 4 == 3)?;
    Ok(Some((at, is_inner_v6)))
}

fn gre(header: &[u8]) -> Result<(usize, bool), NotSyn> {
    let fixed = header.get(..4).ok_or(Unparsed)?;
    if fixed[0] & 0x40 != 0 || fixed[1] % 8 != 0 {
        return Err(Other);
    }
    let words = [0x80, 0x20, 0x10].map(|flag| usize::from(fixed[0] & flag != 0));
    let len = 4 + 4 * words.iter().sum::<usize>();
    match fixed[2..] {
        [8, 0] => Ok((len, false)),
        [0x86, 0xdd] => Ok((len, true)),
        _ => Err(Other),
    }
}

fn in_udp(payload: &[u8], is_gue: bool) -> Result<(usize, bool), NotSyn> {
    let first = *payload.first().ok_or(Unparsed)?;
    if !is_gue || first >= 0x40 {
        return match first / 16 {
            4 => Ok((0, false)),
            6 => Ok((0, true)),
            _ => Err(Other),
        };
    }
    let header = payload.get(..4).ok_or(Unparsed)?;
    let len = 4 + 4 * usize::from(first % 32);
    match header {
        [control, ..] if control & 0x20 != 0 => Err(Other),
        [_, _, 0, 0] => match header[1] {
            4 => Ok((len, false)),
            41 => Ok((len, true)),
            47 => Err(Unparsed),
            _ => Err(Other),
        },
        _ => Err(Unparsed),
    }
}

/// Refuses what is longer than the outer packet, knows no congestion, or is a tunnel.
fn check(packet: &[u8], at: usize, is_v6: bool, end: usize, marked: bool) -> Result<(), NotSyn> {
    let inner = packet.get(at..).and_then(|inner| inner.get(..20));
    let inner = inner.ok_or(Unparsed)?;
    let (len, class, protocol) = if is_v6 {
        let class = number(&inner[..2]) >> 4;
        (40 + number(&inner[4..6]), class, inner[6])
    } else {
        (number(&inner[2..4]), usize::from(inner[1]), inner[9])
    };
    if marked && class % 4 == 0 {
        return Err(Other);
    }
    let is_short = at + len > end || packet.len() < end;
    if is_short || [4, 41, 47].contains(&protocol) {
        return Err(Unparsed);
    }
    Ok(())
}

/// The SYN in `frame`, which has an Ethernet header without tags, or in a tunnel in it.
fn read(frame: &[u8]) -> Result<Arrived, NotSyn> {
    let outer = ETHERNET as u8;
    let link = frame.get(..ETHERNET).ok_or(Unparsed)?;
    let found = unwrap(&frame[ETHERNET..], link[12..] == [0x86, 0xdd])?;
    let Some((at, is_v6)) = found else {
        return naive::frame(frame).map(|syn| Arrived { syn, outer });
    };
    let ether_type: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [8, 0] };
    let unwrapped = [&link[..12], &ether_type, &frame[ETHERNET + at..]].concat();
    let mut syn = naive::frame(&unwrapped)?;
    syn.layout.network += at as u8;
    syn.layout.tcp += at as u16;
    Ok(Arrived { syn, outer })
}

/// The outer protocol, and what is in front of an inner packet of this version.
fn front(is_v6: bool, len: usize) -> impl Strategy<Value = (u8, Vec<u8>)> {
    let (protocol, ether_type) = if is_v6 {
        (41, [0x86, 0xdd])
    } else {
        (4, [8, 0])
    };
    let udp = move |port: u16, header: Vec<u8>| {
        let size = (8 + header.len() + len) as u16;
        let fields = [40_000, port, size, 0].map(u16::to_be_bytes).concat();
        (17, [fields, header].concat())
    };
    let gre = (0..8_u8).prop_map(move |bits| {
        let flags = (bits & 4) << 5 | (bits & 2) << 4 | (bits & 1) << 4;
        let more = vec![7; 4 * bits.count_ones() as usize];
        (47, [&[flags, 0], &ether_type[..], &more].concat())
    });
    let gue = (0..32_u8).prop_map(move |words| {
        let more = vec![9; 4 * usize::from(words)];
        udp(GUE, [&[words, protocol, 0, 0], &more[..]].concat())
    });
    prop_oneof![
        Just((protocol, Vec::new())),
        gre,
        gue,
        prop_oneof![Just(FOU), Just(GUE), Just(443)].prop_map(move |port| udp(port, Vec::new())),
    ]
}

/// The outer header for `len` bytes of `protocol`, with words of options or a destination header.
fn outer(is_v6: bool, more: u8, ecn: u8, protocol: u8, len: usize) -> Vec<u8> {
    let size = |len: usize| (len as u16).to_be_bytes();
    if !is_v6 {
        let words = 5 + more;
        let [high, low] = size(usize::from(words) * 4 + len);
        let fixed = [
            0x40 | words,
            ecn,
            high,
            low,
            0,
            0,
            0x40,
            0,
            64,
            protocol,
            0,
            0,
        ];
        return [&fixed[..], &[3; 8], &vec![1; usize::from(more) * 4]].concat();
    }
    let destination: &[u8] = if more == 0 {
        &[]
    } else {
        &[protocol, 0, 4, 1, 4, 1, 0, 0]
    };
    let next = if more == 0 { protocol } else { 60 };
    let [high, low] = size(destination.len() + len);
    let fixed = [0x60, ecn << 4, 0, 0, high, low, next, 64];
    [&fixed[..], &[3; 32], destination].concat()
}

/// A SYN in a tunnel.
fn tunnelled() -> impl Strategy<Value = Vec<u8>> {
    let outer_header = (any::<bool>(), 0..=10_u8, 0..4_u8);
    (generate::syn(), outer_header).prop_flat_map(|(frame, (is_v6, more, ecn))| {
        let inner = frame.bytes[frame.packet..frame.end].to_vec();
        let front = front(inner[0] >> 4 == 6, inner.len());
        front.prop_map(move |(protocol, front)| {
            let len = front.len() + inner.len();
            let header = outer(is_v6, more, ecn, protocol, len);
            let ether_type: [u8; 2] = if is_v6 { [0x86, 0xdd] } else { [8, 0] };
            [&[2; 12], &ether_type[..], &header, &front, &inner].concat()
        })
    })
}

fn parse(frame: &[u8]) -> Result<Arrived, NotSyn> {
    parse_through(frame, Link::Ethernet, Sight::Unclear, &ALL)
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn agree_on_a_tunnel(frame in tunnelled()) {
        prop_assert_eq!(parse(&frame), read(&frame));
    }

    #[test]
    fn agree_on_a_spoiled_tunnel(
        frame in tunnelled(),
        changes in vec((any::<Index>(), any::<bool>(), any::<u8>()), 1..4),
    ) {
        let mut frame = frame;
        for (at, is_near, byte) in changes {
            // Mostly in the headers.
            let len = if is_near { 90.min(frame.len()) } else { frame.len() };
            let at = ETHERNET + at.index(len - ETHERNET);
            frame[at] = byte;
        }
        prop_assert_eq!(parse(&frame), read(&frame));
    }

    #[test]
    fn agree_on_a_tunnel_cut_anywhere(frame in tunnelled(), len: Index) {
        let cut = &frame[..len.index(frame.len())];
        let read = if cut.len() < ETHERNET { Err(Unparsed) } else { read(cut) };
        prop_assert_eq!(parse(cut), read);
    }

    /// What is in no tunnel is read as without them.
    #[test]
    fn agree_on_what_is_no_tunnel(frame in generate::syn()) {
        let syn = wire::syn::parse(&frame.bytes[..]);
        prop_assert_eq!(parse(&frame.bytes).map(|it| it.syn), syn);
    }
}
