//! SYNs in tunnels: which are read, and which are not.

use tfo_common::wire::{
    Link, NotSyn,
    addresses::Address,
    syn::{Arrived, Sight, parse_through},
    tunnel::{Decap, MAX_PORTS, NoTunnels, OuterSource, Tunnels},
};

/// Numbers of protocols (IANA).
const IPIP: u8 = 4;
const UDP: u8 = 17;
const IPV6: u8 = 41;
const GRE: u8 = 47;
const FRAGMENT: u8 = 44;
const DESTINATION: u8 = 60;

const FOU: u16 = 5555;
const GUE_PORT: u16 = 6080;

fn all() -> Decap {
    Decap {
        protocols: Decap::IPIP | Decap::GRE | Decap::UDP,
        ports: [FOU.into(), u32::from(GUE_PORT) | Decap::GUE, 0, 0],
        ..Decap::OFF
    }
}

/// A SYN to port 80 in an IP packet.
fn syn(v6: bool) -> Vec<u8> {
    let tcp = [
        0x12, 0x34, 0, 80, 0, 0, 0, 7, 0, 0, 0, 0, 0x50, 2, 1, 0, 0, 0, 0, 0,
    ];
    packet(v6, 6, &tcp)
}

/// An IP packet without options from addresses 1 to addresses 2.
fn packet(v6: bool, protocol: u8, payload: &[u8]) -> Vec<u8> {
    let mut header = if v6 {
        let [high, low] = (payload.len() as u16).to_be_bytes();
        let mut header = vec![0x60, 0, 0, 0, high, low, protocol, 64];
        header.extend([[1; 16], [2; 16]].concat());
        header
    } else {
        let [high, low] = (20 + payload.len() as u16).to_be_bytes();
        vec![
            0x45, 0, high, low, 0, 0, 0x40, 0, 64, protocol, 0, 0, 1, 1, 1, 1, 2, 2, 2, 2,
        ]
    };
    header.extend(payload);
    header
}

/// `payload` in a UDP datagram to `port`.
fn udp(port: u16, payload: &[u8]) -> Vec<u8> {
    let len = (8 + payload.len() as u16).to_be_bytes();
    [
        &[0x99, 0x99],
        &port.to_be_bytes()[..],
        &len,
        &[0, 0],
        payload,
    ]
    .concat()
}

fn parse(packet: &[u8], tunnels: impl Tunnels) -> Result<Arrived, NotSyn> {
    parse_through(packet, Link::None, Sight::Unclear, tunnels)
}

/// Every kind of tunnel: its outer protocol, and what is in front of the inner packet.
fn kinds(v6: bool) -> Vec<(u8, Vec<u8>)> {
    let (ether_type, protocol) = if v6 {
        ([0x86, 0xdd], IPV6)
    } else {
        ([0x08, 0x00], IPIP)
    };
    let gre =
        |flags: u8, more: usize| (GRE, [&[flags, 0], &ether_type[..], &vec![7; more]].concat());
    let gue = |words: u8| {
        let optional = vec![9; usize::from(words) * 4];
        let header = [&[words, protocol, 0, 0], &optional[..]].concat();
        (UDP, udp(GUE_PORT, &header))
    };
    vec![
        (protocol, Vec::new()),
        gre(0, 0),
        gre(0x80, 4),
        gre(0x20, 4),
        gre(0xb0, 12),
        (UDP, udp(FOU, &[])),
        // Variant 1 of GUE.
        (UDP, udp(GUE_PORT, &[])),
        gue(0),
        gue(31),
    ]
}

fn in_tunnel(outer_v6: bool, (protocol, front): &(u8, Vec<u8>), inner: &[u8]) -> Vec<u8> {
    packet(outer_v6, *protocol, &[front, inner].concat())
}

/// Each kind in each version of IP, with the offset of the inner packet.
fn each(mut check: impl FnMut(Vec<u8>, usize, bool)) {
    for outer_v6 in [false, true] {
        for inner_v6 in [false, true] {
            for kind in kinds(inner_v6) {
                let outer_len = if outer_v6 { 40 } else { 20 };
                let at = outer_len + kind.1.len();
                check(in_tunnel(outer_v6, &kind, &syn(inner_v6)), at, inner_v6);
            }
        }
    }
}

#[test]
fn a_syn_in_each_tunnel_is_that_without_it() {
    each(|tunnelled, at, v6| {
        let bare = parse(&syn(v6), NoTunnels).unwrap();
        let mut read = parse(&tunnelled, &all()).unwrap();
        assert!(read.is_tunnelled() && !bare.is_tunnelled());
        assert_eq!((read.outer, usize::from(read.syn.layout.network)), (0, at));
        read.syn.layout.network = 0;
        read.syn.layout.tcp -= at as u16;
        assert_eq!(read, bare);
        // What is off is no tunnel, and a tunnel is no SYN.
        assert_eq!(parse(&tunnelled, &Decap::OFF), Err(NotSyn::Other));
        assert_eq!(parse(&tunnelled, NoTunnels), Err(NotSyn::Other));
    });
}

#[test]
fn each_kind_is_on_by_itself() {
    let only = |protocols| Decap { protocols, ..all() };
    each(|tunnelled, at, v6| {
        let protocol = if tunnelled[0] >> 4 == 6 {
            tunnelled[6]
        } else {
            tunnelled[9]
        };
        for (bit, protocols) in [
            (Decap::IPIP, &[IPIP, IPV6][..]),
            (Decap::GRE, &[GRE]),
            (Decap::UDP, &[UDP]),
        ] {
            let read = parse(&tunnelled, &only(bit)).is_ok();
            assert_eq!(read, protocols.contains(&protocol), "{bit} {at} {v6}");
        }
        let no_port = Decap {
            ports: [0; MAX_PORTS],
            ..all()
        };
        assert_eq!(parse(&tunnelled, &no_port).is_ok(), protocol != UDP);
    });
}

#[test]
fn a_cut_packet_is_no_syn() {
    each(|tunnelled, at, _| {
        for len in 0..tunnelled.len() {
            let read = parse(&tunnelled[..len], &all());
            // A UDP header without a port is no tunnel's.
            assert!(read.is_err(), "{len}");
            assert!(len < at || read == Err(NotSyn::Unparsed), "{len} of {at}");
        }
        // The outer packet is shorter than the inner one.
        let mut short = tunnelled.clone();
        let len = if short[0] >> 4 == 6 { 5 } else { 3 };
        short[len] -= 1;
        assert_eq!(parse(&short, &all()), Err(NotSyn::Unparsed));
        // Longer it may be.
        let mut long = tunnelled;
        long[len] += 1;
        assert_eq!(parse(&long, &all()), Err(NotSyn::Unparsed));
        long.push(0);
        assert!(parse(&long, &all()).is_ok());
    });
}

#[test]
fn a_tunnel_in_a_tunnel_is_unparsed() {
    for protocol in [IPIP, IPV6, GRE] {
        for v6 in [false, true] {
            let inner = packet(v6, protocol, &syn(false));
            for kind in kinds(v6) {
                let read = parse(&in_tunnel(false, &kind, &inner), &all());
                assert_eq!(read, Err(NotSyn::Unparsed), "{protocol} {v6}");
            }
        }
    }
    // GRE in GUE.
    let gue = (UDP, udp(GUE_PORT, &[0, GRE, 0, 0]));
    let read = parse(&in_tunnel(false, &gue, &syn(false)), &all());
    assert_eq!(read, Err(NotSyn::Unparsed));
}

#[test]
fn fragments_of_a_tunnel_are_unparsed() {
    each(|mut tunnelled, _, _| {
        if tunnelled[0] >> 4 == 6 {
            let next = std::mem::replace(&mut tunnelled[6], FRAGMENT);
            tunnelled[5] += 8;
            tunnelled.splice(40..40, [next, 0, 0, 1, 0, 0, 0, 0]);
            assert_eq!(parse(&tunnelled, &all()), Err(NotSyn::Unparsed));
            tunnelled[43] = 8;
            let expected = if next == UDP {
                NotSyn::Other
            } else {
                NotSyn::Unparsed
            };
            assert_eq!(parse(&tunnelled, &all()), Err(expected));
        } else {
            tunnelled[6] = 0x20;
            assert_eq!(parse(&tunnelled, &all()), Err(NotSyn::Unparsed));
            tunnelled[7] = 1;
            let expected = if tunnelled[9] == UDP {
                NotSyn::Other
            } else {
                NotSyn::Unparsed
            };
            assert_eq!(parse(&tunnelled, &all()), Err(expected));
        }
    });
}

#[test]
fn congestion_drops_what_knows_no_ecn() {
    each(|mut tunnelled, at, v6| {
        let mark = |packet: &mut [u8], v6: bool, ecn: u8| {
            if v6 {
                packet[1] = ecn << 4;
            } else {
                packet[1] = ecn;
            }
        };
        let outer_v6 = tunnelled[0] >> 4 == 6;
        for outer in 0..4 {
            for inner in 0..4 {
                mark(&mut tunnelled, outer_v6, outer);
                mark(&mut tunnelled[at..], v6, inner);
                let read = parse(&tunnelled, &all());
                if outer == 3 && inner == 0 {
                    assert_eq!(read, Err(NotSyn::Other));
                } else {
                    assert!(read.is_ok(), "{outer} {inner}");
                }
            }
        }
    });
}

#[test]
fn what_the_kernel_refuses_is_no_tunnel() {
    let gre = |flags: [u8; 2], ether_type: [u8; 2]| {
        let front = [flags, ether_type].concat();
        parse(&in_tunnel(false, &(GRE, front), &syn(false)), &all())
    };
    assert!(gre([0, 0], [8, 0]).is_ok());
    for (flags, ether_type) in [
        ([0x40, 0], [8, 0]),
        ([0, 1], [8, 0]),
        ([0, 0], [0x65, 0x58]),
    ] {
        assert_eq!(gre(flags, ether_type), Err(NotSyn::Other), "{flags:?}");
    }
    let gue = |header: [u8; 4]| {
        let front = udp(GUE_PORT, &header);
        parse(&in_tunnel(false, &(UDP, front), &syn(false)), &all())
    };
    for (header, expected) in [
        ([0x20, 4, 0, 0], NotSyn::Other),
        ([0, 6, 0, 0], NotSyn::Other),
        ([0x80, 4, 0, 0], NotSyn::Other),
        ([0, 4, 0, 1], NotSyn::Unparsed),
    ] {
        assert_eq!(gue(header), Err(expected), "{header:?}");
    }
    // FOU has no header of its own.
    let read = parse(
        &in_tunnel(false, &(UDP, udp(FOU, &[0, 4, 0, 0])), &syn(false)),
        &all(),
    );
    assert_eq!(read, Err(NotSyn::Other));
}

/// Linux' `ip6_tunnel` sends a limit of encapsulations with each packet.
#[test]
fn one_short_destination_header_is_passed_over() {
    let limit = [IPIP, 0, 4, 1, 4, 1, 0, 0];
    let with = |header: &[u8]| packet(true, DESTINATION, &[header, &syn(false)].concat());
    let layout = parse(&with(&limit), &all()).unwrap().syn.layout;
    assert_eq!((layout.network, layout.tcp), (48, 68));
    let long = [IPIP, 1, 1, 12, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    assert_eq!(parse(&with(&long), &all()), Err(NotSyn::Other));
}

#[test]
fn sources_are_those_of_a_prefix() {
    let address = |text: &str| Address::of_ip(text.parse().unwrap());
    for (prefix, bits, inside, outside) in [
        ("192.0.2.0", 24 + 96, "192.0.2.255", "192.0.3.0"),
        ("192.0.2.7", 128, "192.0.2.7", "192.0.2.6"),
        ("0.0.0.0", 96, "255.255.255.255", "::1"),
        ("2001:db8::", 33, "2001:db8:7fff::", "2001:db8:8000::"),
        ("::", 0, "2001:db8::", ""),
    ] {
        let source = OuterSource::new(address(prefix), bits);
        assert!(source.holds(&address(inside)), "{prefix}/{bits}");
        assert!(
            outside.is_empty() || !source.holds(&address(outside)),
            "{prefix}"
        );
    }
    for any in ["::", "0.0.0.0", "255.255.255.255"] {
        assert!(!OuterSource::NONE.holds(&address(any)), "{any}");
    }
}
