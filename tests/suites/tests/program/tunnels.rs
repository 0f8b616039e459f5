//! SYNs in tunnels: what the programs count of them, in XDP and in traffic control.

use std::net::IpAddr;

use anyhow::{Context as _, Result, ensure};
use aya::programs::{TestRun as _, TestRunOptions};
use tfo_common::{
    counters::{
        Counter::{self, Elsewhere, Passive, PolicyReissue, ReasonBadCookie},
        Counters,
    },
    policy::{Action, Class},
};
use tfo_testbed::{
    packet::{fast_open, flag, linux_options},
    policy,
    program::{Counted, PASS, Program},
    tunnel::Tunnel,
};
use tfo_userspace::model::{Decap, Mirror, Settings};

use crate::flow::{FLOWS, Flow, PRIMARY, syn_counts, unparsed};

const DATA: &[u8] = b"GET / HTTP/1.1";
const PORTS: [u16; 2] = [5555, 6080];
const ETHERNET: usize = 14;

/// One of each form that is read.
const TUNNELS: [Tunnel; 7] = [
    Tunnel::Ipip,
    Tunnel::Gre,
    Tunnel::LongGre,
    Tunnel::Fou(PORTS[0]),
    Tunnel::Gue(PORTS[1], 0),
    Tunnel::Gue(PORTS[1], 31),
    Tunnel::DirectGue(PORTS[1]),
];

/// Outer sources and destinations.
const BALANCERS: [[&str; 2]; 2] = [
    ["203.0.113.9", "198.51.100.2"],
    ["2001:db8:9::9", "2001:db8:7::2"],
];

fn settings(tunnels: &str, sources: &str) -> Result<Settings> {
    let tunnels: Result<Vec<_>, String> = tunnels.split_whitespace().map(str::parse).collect();
    let sources: Result<Vec<_>, String> = sources.split_whitespace().map(str::parse).collect();
    let all = tunnels.and_then(|tunnels| Decap::new(&tunnels, &sources?));
    Ok(Settings {
        decap: all.map_err(anyhow::Error::msg)?,
        ..Settings::from(Mirror::Packet)
    })
}

fn reading() -> Result<Settings> {
    settings(
        "ipip gre fou:5555 gue:6080",
        "198.18.0.0/15 203.0.113.0/24 2001:db8:9::/48",
    )
}

/// A SYN with a valid cookie and data, in a packet.
fn good(flow: Flow) -> Vec<u8> {
    flow.syn()
        .options(&linux_options(&fast_open(&flow.cookie(&PRIMARY))))
        .data(DATA)
        .packet()
        .to_vec()
}

/// Calls `test` with each tunnel and outer version around `inner`, with the offset of the inner packet.
fn each(inner: &[u8], mut test: impl FnMut(Vec<u8>, usize) -> Result<()>) -> Result<()> {
    for tunnel in TUNNELS {
        for ends in BALANCERS {
            let frame = framed(tunnel, ends, inner)?;
            let at = frame.len() - inner.len();
            test(frame, at).with_context(|| format!("{tunnel:?} between {ends:?}"))?;
        }
    }
    Ok(())
}

fn framed(tunnel: Tunnel, ends: [&str; 2], inner: &[u8]) -> Result<Vec<u8>> {
    let [source, destination] = ends;
    let (source, destination): (IpAddr, IpAddr) = (source.parse()?, destination.parse()?);
    Ok(tunnel.frame(source, destination, inner))
}

fn expect(counted: &Counted, expected: &Counted) -> Result<()> {
    ensure!(counted == expected, "{counted:?} instead of {expected:?}");
    Ok(())
}

#[test]
fn a_syn_in_a_tunnel_counts_as_itself() -> Result<()> {
    let program = Program::with_settings(reading()?, &[PRIMARY])?;
    let off = Program::with_keys(&[PRIMARY])?;
    for flow in FLOWS {
        each(&good(flow), |frame, _| {
            expect(&program.count(&frame)?, &syn_counts(&[Passive], DATA))?;
            expect(&off.count(&frame)?, &Counted::nothing())
        })?;
        let ack = flow.segment(flag::ACK).data(DATA).packet();
        each(&ack, |frame, _| {
            expect(&program.count(&frame)?, &Counted::nothing())
        })?;
        // Beside tunnels, all is as before.
        let bare = flow.syn().options(&fast_open(&flow.cookie(&PRIMARY)));
        let expected = syn_counts(&[Passive], DATA);
        expect(&program.count(&bare.data(DATA).frame())?, &expected)?;
    }
    Ok(())
}

/// The same in traffic control, whose programs the kernel runs on a socket buffer.
#[test]
fn traffic_control_reads_through_tunnels_too() -> Result<()> {
    for on in [true, false] {
        let settings = if on {
            reading()?
        } else {
            Mirror::Packet.into()
        };
        let program = Program::translating(settings, &[PRIMARY])?;
        let (ingress, _) = program.classifiers()?;
        let mut expected = 0;
        for flow in FLOWS {
            each(&good(flow), |frame, _| {
                let mut out = vec![0; frame.len() + 64];
                let result = ingress.test_run(TestRunOptions {
                    data_in: Some(&frame),
                    data_out: Some(&mut out),
                    ..TestRunOptions::default()
                })?;
                out.truncate(result.data_size_out as usize);
                ensure!(out == frame, "the packet was changed");
                expected += u64::from(on);
                let passive = program.counters()?.total.get(Passive);
                ensure!(passive == expected, "{passive} instead of {expected}");
                Ok(())
            })?;
        }
    }
    Ok(())
}

#[test]
fn only_what_is_named_is_read_through() -> Result<()> {
    let any = "0.0.0.0/0 ::/0";
    for (named, read) in [
        ("ipip", &[Tunnel::Ipip][..]),
        ("gre", &[Tunnel::Gre, Tunnel::LongGre]),
        ("fou:5555", &[Tunnel::Fou(PORTS[0])]),
        (
            "gue:6080",
            &[
                Tunnel::Gue(PORTS[1], 0),
                Tunnel::Gue(PORTS[1], 31),
                Tunnel::DirectGue(PORTS[1]),
            ],
        ),
        ("gue:1 fou:2 fou:3 gue:4", &[]),
    ] {
        let program = Program::with_settings(settings(named, any)?, &[PRIMARY])?;
        for tunnel in TUNNELS {
            for ends in BALANCERS {
                let counted = program.count(&framed(tunnel, ends, &good(FLOWS[0]))?)?;
                let expected = if read.contains(&tunnel) {
                    syn_counts(&[Passive], DATA)
                } else {
                    Counted::nothing()
                };
                expect(&counted, &expected).with_context(|| format!("{named}: {tunnel:?}"))?;
            }
        }
    }
    Ok(())
}

/// Anyone could forge an outer header: only the load balancers' are read through.
#[test]
fn outer_packets_of_others_are_no_syns() -> Result<()> {
    let program = Program::with_settings(reading()?, &[PRIMARY])?;
    let elsewhere = Counted::at_no_port(&[(Elsewhere, 1)]);
    for (source, destination, is_allowed) in [
        ("203.0.113.0", "198.51.100.2", true),
        ("203.0.113.255", "198.51.100.2", true),
        ("203.0.112.255", "198.51.100.2", false),
        ("203.0.114.0", "198.51.100.2", false),
        ("198.19.255.255", "198.51.100.2", true),
        ("198.20.0.0", "198.51.100.2", false),
        ("2001:db8:9:ffff::", "2001:db8:7::2", true),
        ("2001:db8:a::", "2001:db8:7::2", false),
        ("::", "2001:db8:7::2", false),
    ] {
        for tunnel in TUNNELS {
            let frame = framed(tunnel, [source, destination], &good(FLOWS[0]))?;
            let expected = if is_allowed {
                syn_counts(&[Passive], DATA)
            } else {
                elsewhere.clone()
            };
            expect(&program.count(&frame)?, &expected)
                .with_context(|| format!("{tunnel:?} from {source}"))?;
        }
    }
    // The kernel drops an outer header with a wrong checksum.
    let mut frame = framed(Tunnel::Ipip, BALANCERS[0], &good(FLOWS[1]))?;
    frame[ETHERNET + 10] ^= 1;
    expect(&program.count(&frame)?, &elsewhere)
}

#[test]
fn what_is_cut_nested_or_in_fragments_is_unparsed() -> Result<()> {
    let program = Program::with_settings(reading()?, &[PRIMARY])?;
    for flow in FLOWS {
        let inner = good(flow);
        each(&inner, |frame, at| {
            for len in [at, at + 19, at + 39, frame.len() - 1] {
                expect(&program.count(&frame[..len])?, &unparsed())
                    .with_context(|| format!("cut to {len}"))?;
            }
            Ok(())
        })?;
        for nested in [Tunnel::Ipip, Tunnel::Gre] {
            let frame = framed(nested, BALANCERS[0], &inner)?;
            each(&frame[ETHERNET..], |frame, _| {
                expect(&program.count(&frame)?, &unparsed())
            })?;
        }
        for tunnel in TUNNELS {
            let mut first = framed(tunnel, BALANCERS[0], &inner)?;
            first[ETHERNET + 6] = 0x20;
            expect(&program.count(&first)?, &unparsed()).with_context(|| format!("{tunnel:?}"))?;
        }
    }
    Ok(())
}

/// A router's mark of congestion has the kernel drop a packet that knows no ECN.
#[test]
fn congestion_marks_are_respected() -> Result<()> {
    let program = Program::with_settings(reading()?, &[PRIMARY])?;
    each(&good(FLOWS[0]), |mut frame, at| {
        let mark = if frame[ETHERNET] >> 4 == 4 { 3 } else { 3 << 4 };
        frame[ETHERNET + 1] |= mark;
        if frame[ETHERNET] >> 4 == 4 {
            // The checksum of a header one of whose words grew by 3.
            let sum = u16::from_be_bytes([frame[ETHERNET + 10], frame[ETHERNET + 11]]);
            let sum = sum.checked_sub(3).context("it wraps around")?;
            frame[ETHERNET + 10..ETHERNET + 12].copy_from_slice(&sum.to_be_bytes());
        }
        expect(&program.count(&frame)?, &Counted::nothing())?;
        // The inner header tells of ECN (RFC 3168); an interface without a namespace does not check its checksum.
        frame[at + 1] |= 2;
        expect(&program.count(&frame)?, &syn_counts(&[Passive], DATA))
    })
}

/// A tunnelled SYN meets the policy, which rewrites it in place: the rest of the frame stays, and the TCP checksum is right,
/// with which the outer one of UDP stays right, too.
#[test]
fn the_inner_option_is_rewritten() -> Result<()> {
    let mut program = Program::with_settings(reading()?, &[PRIMARY])?;
    let rules = policy::everywhere(policy::rule(Class::Bad, Action::Reissue));
    program.datapath().set_policy(Some(&rules))?;
    for flow in FLOWS {
        let syn = |cookie: &[u8]| {
            let options = linux_options(&fast_open(cookie));
            flow.syn().options(&options).data(DATA).packet().to_vec()
        };
        let (bad, before) = (syn(b"no one's"), program.counters()?.total);
        let mut rewritten = 0;
        each(&bad, |frame, at| {
            let (verdict, out, _) = program.run(&frame)?;
            ensure!(verdict == PASS && out.len() == frame.len());
            ensure!(out[..at] == frame[..at], "the outer headers were changed");
            ensure!(out != frame, "nothing was rewritten");
            let sums = [&frame, &out].map(|frame| sum(&frame[at..]));
            ensure!(sums[0] == sums[1], "another sum of the packet: {sums:?}");
            rewritten += 1;
            Ok(())
        })?;
        let after = program.counters()?.total;
        for counter in [PolicyReissue, ReasonBadCookie] {
            let grown = grown(&before, &after, counter);
            ensure!(grown == rewritten, "{}: {grown}", counter.name());
        }
    }
    Ok(())
}

fn grown(before: &Counters, after: &Counters, counter: Counter) -> u64 {
    after.get(counter) - before.get(counter)
}

/// The Internet checksum's sum over a packet (RFC 1071).
fn sum(packet: &[u8]) -> u32 {
    let halves = packet.chunks(2);
    let halves = halves.map(|it| u32::from(it[0]) << 8 | u32::from(*it.get(1).unwrap_or(&0)));
    let mut sum: u32 = halves.sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    sum
}
