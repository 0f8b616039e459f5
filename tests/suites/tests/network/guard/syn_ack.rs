//! The guard's SYN-ACK is the kernel's own: the same SYN goes to two equal listeners, one of them guarded, under random
//! settings of listener, host and route.

use std::{net::SocketAddr, time::Duration};

use anyhow::{Context as _, Result, ensure};
use fastrand::Rng;
use socket2::{Domain, Protocol, Socket, Type};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{Segment, checksum, fast_open},
    poll::wait_for,
    seed::rng,
    socket::Listener,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, SERVER_INTERFACE, server_port},
    xdp::Mode,
};

use super::testbed::{GuardTestbed, in_each_mode};

const LIMIT: Duration = Duration::from_secs(20);
const ROUNDS: usize = 40;
const ETHERNET: usize = 14;

/// Settings of a listener.
#[derive(Clone, Debug)]
struct Options {
    segment_size: Option<u32>,
    hop_limit: Option<u32>,
    traffic_class: Option<u32>,
    receive_buffer: Option<usize>,
    fast_open: bool,
}

impl Options {
    fn random(random: &mut Rng, family: Family) -> Self {
        let least = if family == Family::V4 { 536 } else { 1220 };
        let bool = |random: &mut Rng| random.bool();
        Self {
            segment_size: bool(random).then(|| random.u32(least..1500)),
            hop_limit: bool(random).then(|| random.u32(1..256)),
            // The kernel keeps the ECN bits of a TCP socket to itself.
            traffic_class: bool(random).then(|| random.u32(..64) << 2),
            receive_buffer: bool(random).then(|| random.usize(4096..1 << 20)),
            fast_open: bool(random),
        }
    }

    fn listen(&self, testbed: &GuardTestbed, family: Family) -> Result<Listener> {
        testbed.base.pair.server.run(|| {
            let v4 = family == Family::V4;
            let domain = if v4 { Domain::IPV4 } else { Domain::IPV6 };
            let socket = Socket::new(domain, Type::STREAM, Some(Protocol::TCP))?;
            socket.bind(&SocketAddr::new(family.unspecified(), 0).into())?;
            if let Some(size) = self.segment_size {
                socket.set_tcp_mss(size)?;
            }
            if let Some(hops) = self.hop_limit {
                if v4 {
                    socket.set_ttl_v4(hops)?;
                } else {
                    socket.set_unicast_hops_v6(hops)?;
                }
            }
            if let Some(class) = self.traffic_class {
                if v4 {
                    socket.set_tos_v4(class)?;
                } else {
                    socket.set_tclass_v6(class)?;
                }
            }
            if let Some(bytes) = self.receive_buffer {
                socket.set_recv_buffer_size(bytes)?;
            }
            let listener = Listener::of(socket)?;
            if self.fast_open {
                listener.enable_fast_open(128)?;
            }
            Ok(listener)
        })
    }
}

/// Sets sysctls and the route to the client at random.
fn configure(random: &mut Rng, testbed: &GuardTestbed, family: Family) -> Result<()> {
    let server = &testbed.base.pair.server;
    for key in [
        "net.ipv4.tcp_timestamps",
        "net.ipv4.tcp_sack",
        "net.ipv4.tcp_window_scaling",
        "net.ipv4.tcp_ecn",
        "net.ipv4.tcp_reflect_tos",
    ] {
        server.set_sysctl(key, if random.bool() { "1" } else { "0" })?;
    }
    let hops = random.u8(1..).to_string();
    server.set_sysctl("net.ipv4.ip_default_ttl", &hops)?;
    let hop_limit = format!("net.ipv6.conf.{SERVER_INTERFACE}.hop_limit");
    server.set_sysctl(&hop_limit, &hops)?;
    let route = match family {
        Family::V4 => "10.77.0.0/24 dev server0 proto kernel scope link src 10.77.0.1",
        Family::V6 => "fd77::/64 dev server0 proto kernel metric 256",
    };
    let metric = match random.u8(..3) {
        0 => String::new(),
        1 => format!("mtu {}", random.u32(1300..1500)),
        _ => format!("advmss {}", random.u32(1220..1400)),
    };
    server.configure(&[format!("route replace {route} {metric}")])
}

/// A SYN with random options, class and ECN.
fn syn(random: &mut Rng, family: Family) -> Vec<u8> {
    let mut options = vec![2, 4];
    options.extend(random.u16(1220..9000).to_be_bytes());
    let timestamps = random.bool();
    if timestamps {
        options.extend([1, 1, 8, 10]);
        options.extend(random.u32(..).to_be_bytes());
        options.extend([0; 4]);
    }
    if random.bool() {
        options.extend([4, 2]);
    }
    if random.bool() {
        // One that a challenge without timestamps can hold.
        let scale = [0, 2, 4, 6, 7, 8, 10][random.usize(..7)];
        options.extend([3, 3, if timestamps { random.u8(..15) } else { scale }]);
    }
    if random.bool() {
        options.extend_from_slice(&fast_open(b""));
    }
    options.resize(options.len().next_multiple_of(4), 1);
    let source = SocketAddr::new(family.spare(0), random.u16(1024..));
    let syn = Segment::syn(source, server_port(family, 0)).options(&options);
    syn.numbers(random.u32(..), 0).frame().to_vec()
}

/// The SYN to `port`, with this traffic class, and ECN asked for or not.
fn addressed(frame: &[u8], family: Family, port: u16, class: u8, ecn: bool) -> Vec<u8> {
    let mut frame = frame.to_vec();
    let tcp = match family {
        Family::V4 => {
            let header = &mut frame[ETHERNET..][..20];
            header[1] = class;
            header[10..12].fill(0);
            let sum = checksum(header, 0);
            header[10..12].copy_from_slice(&sum.to_be_bytes());
            ETHERNET + 20
        }
        Family::V6 => {
            frame[ETHERNET] = 0x60 | class >> 4;
            frame[ETHERNET + 1] = class << 4;
            ETHERNET + 40
        }
    };
    frame[tcp + 2..][..2].copy_from_slice(&port.to_be_bytes());
    if ecn {
        frame[tcp + 13] |= 0xc0;
    }
    frame[tcp + 16..][..2].fill(0);
    let addresses = match family {
        Family::V4 => ETHERNET + 12..ETHERNET + 20,
        Family::V6 => ETHERNET + 8..ETHERNET + 40,
    };
    let rest = 6 + (frame.len() - tcp) as u32;
    let pseudo = [&frame[addresses], &frame[tcp..]].concat();
    let sum = checksum(&pseudo, rest);
    frame[tcp + 16..][..2].copy_from_slice(&sum.to_be_bytes());
    frame
}

/// The answer to a SYN to `port`, with all fields zeroed that are the port's own or random.
fn answer(link: &LinkSocket, family: Family, port: u16) -> Result<Vec<u8>> {
    let tcp = if family == Family::V4 { 34 } else { 54 };
    let mut frame = wait_for("the SYN-ACK", LIMIT, || {
        let frame = link.receive(Duration::from_millis(100))?;
        Ok(frame.filter(|frame| {
            frame.get(tcp..tcp + 2) == Some(&port.to_be_bytes())
                && frame
                    .get(tcp + 13)
                    .is_some_and(|flags| flags & 0x12 == 0x12)
        }))
    })?;
    match family {
        // Identification, which counts up with every packet, and the checksum.
        Family::V4 => {
            frame[ETHERNET + 10..][..2].fill(0);
            if frame[ETHERNET + 6] & 0x40 == 0 {
                frame[ETHERNET + 4..][..2].fill(0);
            }
        }
        // Flow label.
        Family::V6 => {
            frame[ETHERNET + 1] &= 0xf0;
            frame[ETHERNET + 2..][..2].fill(0);
        }
    }
    // Port, ISN and checksum.
    frame[tcp..][..2].fill(0);
    frame[tcp + 4..][..4].fill(0);
    frame[tcp + 16..][..2].fill(0);
    clear_clock(&mut frame, tcp + 20);
    Ok(frame)
}

/// Zeroes `TSval` in the options from offset `at`.
fn clear_clock(frame: &mut [u8], mut at: usize) {
    while at + 1 < frame.len() {
        match frame[at] {
            0 => break,
            1 => at += 1,
            8 => {
                frame[at + 2..][..4].fill(0);
                break;
            }
            _ => at += usize::from(frame[at + 1].max(2)),
        }
    }
}

fn it_is_the_kernels_own(mode: Mode) -> Result<()> {
    let mut random = rng()?;
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(mode)?;
        testbed
            .base
            .pair
            .set_neighbour(family.spare(0), NOBODYS_MAC)?;
        let link = LinkSocket::open(&testbed.base.pair.client, CLIENT_INTERFACE, Frames::All)?;
        // Listeners of earlier rounds keep their ports: the rules of those stay in force.
        let mut listeners = Vec::new();
        for round in 0..ROUNDS {
            let options = Options::random(&mut random, family);
            configure(&mut random, &testbed, family)?;
            let own = options.listen(&testbed, family)?;
            let guarded = options.listen(&testbed, family)?;
            testbed.guard(guarded.port(), "on", &[])?;
            let frame = syn(&mut random, family);
            let (class, ecn) = (random.u8(..) & !3, random.bool());
            let of = |port| -> Result<_> {
                link.send(&addressed(&frame, family, port, class, ecn))?;
                answer(&link, family, port)
            };
            let kernel = of(own.port()).context("the kernel's")?;
            let guard = of(guarded.port()).context("the guard's")?;
            ensure!(
                kernel == guard,
                "{family}, round {round}, {options:?}\nkernel {kernel:02x?}\nguard  {guard:02x?}\nSYN {frame:02x?}"
            );
            listeners.push([own, guarded]);
        }
        let challenged = testbed
            .counters()?
            .get(tfo_common::counters::Counter::GuardChallenged);
        ensure!(challenged == ROUNDS as u64, "{challenged}");
    }
    Ok(())
}

in_each_mode! {
    it_is_the_kernels_own;
}
