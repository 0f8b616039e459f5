//! Frames to measure.

use std::net::{IpAddr, SocketAddr};

use bytes::Bytes;
use etherparse::{EtherType, PacketBuilder};
use tfo_common::counters::Counter::{
    self, CookieReqd, Passive, PassiveAltKey, PassiveFail, ReasonBadCookie,
};
use tfo_testbed::{
    packet::{self, Segment, fast_open, flag, linux_options},
    program::{Counted, KeyBytes},
    tunnel::Tunnel,
};

use crate::{
    data_path::{BACKUP, GUE_PORT, PORT, PRIMARY, With},
    measure::Hook,
    net::Cost,
    peers::PeerCounts,
};

/// MSS, SACK permitted, timestamps and window scale in Linux's order.
pub(crate) const USUAL_OPTIONS: [u8; 20] = [
    2, 4, 5, 180, 4, 2, 8, 10, 0, 0, 0, 1, 0, 0, 0, 0, 1, 3, 3, 7,
];

const NO_KEY: KeyBytes = *b"not the server's";
/// The ends of a tunnel.
const BALANCER: [u8; 4] = [203, 0, 113, 9];
const HOST: [u8; 4] = [198, 51, 100, 2];
/// Bytes of the header in front of a packet.
const ETHERNET: usize = 14;
/// Data of a SYN with a cookie.
pub(crate) const REQUEST: &[u8] =
    b"GET /index.html HTTP/1.1\r\nHost: www.example.com\r\nAccept: */*\r\n\r\n";

/// A frame, the program that runs on it, and its costs.
pub(crate) struct Case {
    pub(crate) name: String,
    /// Configuration of the data path.
    pub(crate) with: With,
    pub(crate) frame: Bytes,
    /// Expected counter changes: they prove which code path the frame took.
    pub(crate) counts: Counted,
    /// Expected counter changes in the C program.
    pub(crate) peer: PeerCounts,
    /// Costs of the empty program and of the data path, of each round.
    pub(crate) rounds: Vec<[Cost; 2]>,
    /// Costs of the empty program, of the C program and of the data path, of each round.
    pub(crate) rounds_in_c: Vec<[Cost; 3]>,
}

impl Case {
    fn new(name: impl Into<String>, frame: impl Into<Bytes>, counts: Counted) -> Self {
        Self {
            name: name.into(),
            with: With::Bare,
            frame: frame.into(),
            counts,
            peer: PeerCounts::default(),
            rounds: Vec::new(),
            rounds_in_c: Vec::new(),
        }
    }

    /// `true` if the C program supports the frame: it has one configuration, and parses no extension headers.
    pub(crate) fn in_c(&self) -> bool {
        self.with == With::Bare && !self.name.contains("extension header")
    }

    /// `true` if the program of this hook sees such a frame: before traffic control the kernel takes the VLAN tag off.
    pub(crate) fn reaches(&self, hook: Hook) -> bool {
        hook == Hook::Xdp || !self.name.contains("VLAN")
    }

    /// The same frame with a listener lookup.
    fn exact(self) -> Self {
        self.with(With::Exact, "exact")
    }

    /// The same frame in another configuration.
    fn with(mut self, with: With, name: &str) -> Self {
        self.name = format!("{}, {name}", self.name);
        self.with = with;
        self
    }
}

pub(crate) fn cases() -> Vec<Case> {
    let v4: [IpAddr; 2] = [[192, 0, 2, 7], [198, 51, 100, 2]].map(IpAddr::from);
    let v6: [IpAddr; 2] = [
        [0x2001, 0xdb8, 1, 2, 3, 4, 5, 6],
        [0x2001, 0xdb8, 7, 8, 9, 0, 0, 1],
    ]
    .map(|segments: [u16; 8]| IpAddr::from(segments));
    let mut cases = vec![Case::new("ARP", arp(), Counted::nothing())];
    cases.extend(family("IPv4", v4));
    cases.extend(family("IPv6", v6));
    cases
}

/// The frames of one address family.
fn family(family: &str, [client, server]: [IpAddr; 2]) -> Vec<Case> {
    let segment = |flags| {
        let client = SocketAddr::new(client, 50_000);
        Segment::new(client, SocketAddr::new(server, PORT), flags)
    };
    let syn_in = |what: &str, segment: Segment, fast_open: &[u8], data: &[u8], counters: &[_]| {
        let segment = segment.options(&linux_options(fast_open)).data(data);
        let counts = Counted::syn(PORT, counters, data);
        let case = Case::new(format!("{family} {what}"), segment.frame(), counts);
        Case {
            peer: PeerCounts::syn(counters, data),
            ..case
        }
    };
    let syn = |what: &str, fast_open: &[u8], data: &[u8], counters: &[Counter]| {
        syn_in(what, segment(flag::SYN), fast_open, data, counters)
    };
    let cookie = |key: &KeyBytes| fast_open(&packet::cookie(key, client, server));
    // An ACK of an established connection has timestamps.
    let timestamps = b"\x01\x01\x08\x0a\x5c\x3f\x10\x9a\x10\x2b\x3c\x4d";
    let ack = segment(flag::ACK).options(timestamps);
    let tagged = |segment: Segment| segment.vlan(EtherType::VLAN_TAGGED_FRAME);
    let (udp, nothing) = (udp(client, server), Counted::nothing);
    let alt = &[Passive, PassiveAltKey];
    let valid = || syn("SYN, valid cookie", &cookie(&PRIMARY), REQUEST, &[Passive]);
    let bad = &[PassiveFail, ReasonBadCookie];
    let (none, request, ours) = (b"", fast_open(b""), cookie(&PRIMARY));
    let mut cases = vec![
        Case::new(format!("{family} UDP"), udp, nothing()),
        Case::new(format!("{family} TCP ACK"), ack.padded_frame(), nothing()),
        Case::new(
            format!("{family} TCP ACK, VLAN"),
            tagged(ack.clone()).padded_frame(),
            nothing(),
        ),
        syn("SYN, no Fast Open", none, none, &[]),
        syn_in("SYN, VLAN", tagged(segment(flag::SYN)), none, none, &[]),
        syn("SYN, cookie request", &request, none, &[CookieReqd]),
        valid(),
        syn("SYN, backup key's cookie", &cookie(&BACKUP), REQUEST, alt),
        syn("SYN, invalid cookie", &cookie(&NO_KEY), REQUEST, bad),
        syn("SYN, data alone", none, REQUEST, &[]),
        syn("SYN, no Fast Open", none, none, &[]).exact(),
        syn("SYN, cookie request", &request, none, &[CookieReqd]).exact(),
        valid().exact(),
        syn("SYN, invalid cookie", &cookie(&NO_KEY), REQUEST, bad).exact(),
        syn("SYN, data alone", none, REQUEST, &[]).with(With::Sources, "by source"),
        valid().with(With::Sources, "by source"),
        valid().with(With::OverRate, "events over rate"),
        valid().with(With::Told, "events told"),
    ];
    cases.extend([
        Case::new(format!("{family} TCP ACK"), ack.padded_frame(), nothing())
            .with(With::Tunnels, "tunnels"),
        syn("SYN, no Fast Open", none, none, &[]).with(With::Tunnels, "tunnels"),
        valid().with(With::Tunnels, "tunnels"),
    ]);
    for (kind, tunnel) in [("IPIP", Tunnel::Ipip), ("GUE", Tunnel::Gue(GUE_PORT, 0))] {
        let inside = |case: Case| {
            let packet = &case.frame[ETHERNET..];
            let frame = tunnel.frame(BALANCER.into(), HOST.into(), packet).into();
            Case { frame, ..case }.with(With::Tunnels, &format!("in {kind}"))
        };
        cases.extend([
            inside(Case::new(
                format!("{family} TCP ACK"),
                ack.frame(),
                nothing(),
            )),
            inside(syn("SYN, no Fast Open", none, none, &[])),
            inside(valid()),
        ]);
    }
    if client.is_ipv6() {
        // Destination options header with six bytes of padding.
        let behind = |segment: Segment| segment.extension(60, &[1, 4, 0, 0, 0, 0]);
        let syn = segment(flag::SYN);
        cases.push(Case::new(
            "IPv6 TCP ACK, extension header",
            behind(ack).padded_frame(),
            nothing(),
        ));
        cases.push(syn_in(
            "SYN, extension header",
            behind(syn.clone()),
            none,
            none,
            &[],
        ));
        let name = "SYN, valid cookie, extension header";
        cases.push(syn_in(name, behind(syn), &ours, REQUEST, &[Passive]));
    }
    cases
}

/// An ARP request, padded to Ethernet's minimum length.
fn arp() -> Vec<u8> {
    let mut frame = [&[0xff; 6][..], &[2; 6], &[0x08, 0x06]].concat();
    frame.extend([0, 1, 8, 0, 6, 4, 0, 1]);
    frame.extend([
        2, 2, 2, 2, 2, 2, 192, 0, 2, 7, 0, 0, 0, 0, 0, 0, 198, 51, 100, 2,
    ]);
    frame.resize(60, 0);
    frame
}

fn udp(client: IpAddr, server: IpAddr) -> Vec<u8> {
    let link = PacketBuilder::ethernet2([2; 6], [4; 6]);
    let network = match (client, server) {
        (IpAddr::V4(client), IpAddr::V4(server)) => link.ipv4(client.octets(), server.octets(), 64),
        (IpAddr::V6(client), IpAddr::V6(server)) => link.ipv6(client.octets(), server.octets(), 64),
        _ => unreachable!("client and server have the same address family"),
    };
    let mut frame = Vec::new();
    network
        .udp(50_000, PORT)
        .write(&mut frame, &[0; 100])
        .expect("writing to a Vec does not fail");
    frame
}
