//! Attacks on a listener.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::{Duration, Instant},
};

use anyhow::Result;
use tfo_testbed::{
    keys,
    link::LinkSocket,
    packet::{Segment, checksum, cookie, fast_open, flag, linux_options},
    veth::{Family, NOBODYS_MAC, Pair},
};

/// The attacked listener's.
pub(super) const PORT: u16 = 9000;
/// Addresses of a spoofer.
const SPARES: u8 = 199;

/// Frames that an attacker sends, by their number, at a rate per second.
pub(super) struct Attack {
    pub(super) name: &'static str,
    pub(super) per_second: u32,
    pub(super) frames: fn(Family, u32) -> Vec<Vec<u8>>,
}

impl Attack {
    /// Sends the frames until `ended`.
    pub(super) fn send(&self, family: Family, link: &LinkSocket, ended: &AtomicBool) {
        let start = Instant::now();
        let mut sent = 0;
        while !ended.load(Ordering::Relaxed) {
            let due = start.elapsed().as_millis() as u32 * self.per_second / 1000;
            while sent < due {
                for frame in (self.frames)(family, sent) {
                    let _ = link.send(&frame);
                }
                sent += 1;
            }
            thread::sleep(Duration::from_millis(5));
        }
    }
}

/// Every attack. The clients' address is [`Family::client`].
pub(super) const ATTACKS: [Attack; 13] = [
    Attack {
        name: "none",
        per_second: 1,
        frames: |_, _| Vec::new(),
    },
    Attack {
        name: "a bot with its own cookie",
        per_second: 300,
        frames: |family, n| frame(&with_cookie(bot(family), port(n))),
    },
    Attack {
        name: "SYNs in fragments from all addresses",
        per_second: 300,
        frames: |family, n| fragments(family, &plain(spoofed(family, n), n).frame(), n),
    },
    Attack {
        name: "SYNs with options of IPv4, or with many extension headers",
        per_second: 300,
        frames: |family, n| frame(&with_headers(plain(spoofed(family, n), n))),
    },
    Attack {
        name: "a spoofer of the client's address",
        per_second: 2000,
        frames: |family, n| frame(&plain(family.client(), n)),
    },
    Attack {
        name: "a NAT neighbour with the address' own cookie",
        per_second: 2000,
        frames: |family, n| frame(&with_cookie(family.client(), port(n))),
    },
    Attack {
        name: "spoofed SYNs from all addresses",
        per_second: 3000,
        frames: |family, n| frame(&plain(spoofed(family, n), n)),
    },
    Attack {
        name: "spoofed requests for a cookie",
        per_second: 2000,
        frames: |family, n| {
            let request = syn(spoofed(family, n), port(n));
            frame(&request.options(&linux_options(&fast_open(b""))))
        },
    },
    Attack {
        name: "bad cookies in the client's name",
        per_second: 2000,
        frames: |family, n| {
            let cookie = u64::from(n).to_be_bytes();
            let bad = syn(family.client(), port(n)).options(&linux_options(&fast_open(&cookie)));
            frame(&bad.data(b"take this"))
        },
    },
    Attack {
        name: "data without a cookie",
        per_second: 2000,
        frames: |family, n| frame(&plain(spoofed(family, n), n).data(b"take this")),
    },
    Attack {
        name: "SYNs with a wrong checksum in the client's name",
        per_second: 2000,
        frames: |family, n| {
            let mut wrong = plain(family.client(), n).data(b"1").frame().to_vec();
            let last = wrong.len() - 1;
            wrong[last] ^= 1;
            vec![wrong]
        },
    },
    Attack {
        name: "ACKs with numbers at random",
        per_second: 3000,
        frames: |family, n| {
            let source = SocketAddr::new(spoofed(family, n), port(n));
            let to = SocketAddr::new(family.server(), PORT);
            let random = n.wrapping_mul(0x9e37_79b9);
            let ack = Segment::new(source, to, flag::ACK).numbers(!random, random);
            frame(&ack.data(b"take this"))
        },
    },
    Attack {
        name: "resets in the client's name",
        per_second: 2000,
        frames: |family, n| {
            let source = SocketAddr::new(family.client(), port(n));
            let to = SocketAddr::new(family.server(), PORT);
            frame(&Segment::new(source, to, flag::RST).numbers(n, 0))
        },
    },
];

/// A namespace pair whose server answers to every address of an attacker.
pub(super) fn pair() -> Result<Pair> {
    let pair = Pair::new()?;
    pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
    for family in Family::BOTH {
        let spares = (0..SPARES).map(|number| family.spare(number));
        pair.set_neighbours(spares.chain([bot(family)]), NOBODYS_MAC)?;
    }
    Ok(pair)
}

/// The address of a bot that has its own.
pub(super) fn bot(family: Family) -> IpAddr {
    family.spare(SPARES)
}

/// The server's address of the family of `source`.
fn server(source: IpAddr) -> IpAddr {
    let [v4, v6] = Family::BOTH.map(Family::server);
    if source.is_ipv4() { v4 } else { v6 }
}

/// A SYN without options.
pub(super) fn syn(source: IpAddr, port: u16) -> Segment {
    let to = SocketAddr::new(server(source), PORT);
    Segment::syn(SocketAddr::new(source, port), to)
}

/// An ordinary SYN.
fn plain(source: IpAddr, number: u32) -> Segment {
    syn(source, port(number)).options(&linux_options(b""))
}

/// A SYN with data and the cookie of its source, which is valid.
fn with_cookie(source: IpAddr, port: u16) -> Segment {
    let key = keys::parse(keys::COUNTING).expect("keys")[0].to_bytes();
    let valid = cookie(&key, source, server(source));
    syn(source, port)
        .options(&linux_options(&fast_open(&valid)))
        .data(b"take this")
}

/// One of the spoofer's addresses.
pub(super) fn spoofed(family: Family, number: u32) -> IpAddr {
    family.spare((number % u32::from(SPARES)) as u8)
}

pub(super) fn port(number: u32) -> u16 {
    1024 + (number % 60_000) as u16
}

pub(super) fn frame(segment: &Segment) -> Vec<Vec<u8>> {
    vec![segment.frame().to_vec()]
}

/// NOPs in the IPv4 header, or more IPv6 extension headers than `tfo` reads.
fn with_headers(segment: Segment) -> Segment {
    const DESTINATION: u8 = 60;
    const PAD_6: [u8; 6] = [1, 4, 0, 0, 0, 0];
    let segment = segment.ip_options();
    (0..7).fold(segment, |segment, _| segment.extension(DESTINATION, &PAD_6))
}

/// The packet in `frame` in two fragments.
fn fragments(family: Family, frame: &[u8], number: u32) -> Vec<Vec<u8>> {
    const ETHERNET: usize = 14;
    /// A multiple of 8 within the TCP header.
    const FIRST: usize = 24;
    let header = ETHERNET + if family == Family::V4 { 20 } else { 40 };
    let part = |data: &[u8], offset: usize, more: bool| {
        let mut part = frame[..header].to_vec();
        let ip = &mut part[ETHERNET..];
        match family {
            Family::V4 => {
                ip[2..4].copy_from_slice(&((20 + data.len()) as u16).to_be_bytes());
                ip[4..6].copy_from_slice(&(number as u16).to_be_bytes());
                let flags = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
                ip[6..8].copy_from_slice(&flags.to_be_bytes());
                ip[10..12].fill(0);
                let sum = checksum(ip, 0);
                ip[10..12].copy_from_slice(&sum.to_be_bytes());
            }
            Family::V6 => {
                const FRAGMENT: u8 = 44;
                ip[4..6].copy_from_slice(&((8 + data.len()) as u16).to_be_bytes());
                let tcp = std::mem::replace(&mut ip[6], FRAGMENT);
                let offset = offset as u16 | u16::from(more);
                part.extend([tcp, 0]);
                part.extend(offset.to_be_bytes());
                part.extend(number.to_be_bytes());
            }
        }
        part.extend(data);
        part
    };
    let segment = &frame[header..];
    vec![
        part(&segment[..FIRST], 0, true),
        part(&segment[FIRST..], FIRST, false),
    ]
}
