//! Floods, flows that change hosts between SYN and ACK, and firewalls.

use std::{
    net::{Ipv4Addr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use etherparse::TcpSlice;
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{Segment, checksum, fast_open, flag, linux_options},
    poll::eventually,
    process::ensure_says,
    seed::rng,
    socket::Method,
    tfo::LIMIT,
    veth::Family,
};

use super::{
    farm::{Farm, Member, PORT, send_to, service},
    sum,
};
use crate::guard::{Challenge, printed, set_rules, type_in};

/// The frame of `segment` for this member.
pub(super) fn frame(segment: &Segment, to: &Member) -> Result<Vec<u8>> {
    let mut frame = segment.frame().to_vec();
    frame[..6].copy_from_slice(&to.mac()?);
    Ok(frame)
}

pub(super) fn stranger(number: u32) -> SocketAddr {
    let [_, a, b, c] = number.to_be_bytes();
    (Ipv4Addr::new(11, a, b, c), 40_000).into()
}

/// A flood of SYNs of all kinds from forged addresses ends at the edge, and honest clients open all of their connections.
#[test]
fn a_flood_ends_at_the_edge() -> Result<()> {
    let farm = Farm::guarded(1, 2, "tc")?;
    let edge = &farm.edges[0];
    let mut random = rng()?;
    let frames = (0..20_000_u32).map(|number| {
        let options = match number % 3 {
            0 => linux_options(&[]),
            1 => linux_options(&fast_open(&[])),
            _ => linux_options(&fast_open(b"no good.")),
        };
        let syn = Segment::syn(stranger(random.u32(1..1 << 24)), service(Family::V4));
        frame(&syn.options(&options).numbers(random.u32(..), 0), edge)
    });
    let frames = frames.collect::<Result<Vec<_>>>()?;
    let link = LinkSocket::open(&farm.client.netns, "front", Frames::None)?;
    let ended = AtomicBool::new(false);
    farm.serving(|| {
        thread::scope(|scope| {
            let flood = scope.spawn(|| -> Result<usize> {
                let mut sent = 0;
                while !ended.load(Ordering::Relaxed) || sent < frames.len() {
                    link.send(&frames[sent % frames.len()])?;
                    sent += 1;
                }
                Ok(sent)
            });
            let honest = || {
                for family in Family::BOTH {
                    farm.ask_often(family, Method::Plain, 20)?;
                    let (_, taken) = farm.ask_often(family, Method::SendTo, 20)?;
                    ensure!(taken == 19, "{family}: {taken} of 20 in the SYN");
                }
                Ok(())
            };
            let done = honest();
            ended.store(true, Ordering::Relaxed);
            let sent = flood.join().expect("the flood panicked")?;
            done?;
            let sent = i64::try_from(sent)?;
            eventually("the edge saw the flood", LIMIT, || {
                Ok(edge.count(GuardReferred)? >= sent)
            })?;
            // Two times 19 with a cookie, and no other: nothing of the flood.
            let syns = sum(&farm.hosts, Syns)?;
            ensure!(syns == 38, "{syns} SYNs reached the hosts");
            ensure!(edge.count(GuardProven)? == 38);
            Ok(())
        })
    })
}

/// A SYN that passed is sent again without its cookie where no SYN-ACK comes: the host has a connection for it.
#[test]
fn what_is_sent_again_of_a_syn_that_passed_passes() -> Result<()> {
    let farm = Farm::guarded(1, 1, "tc")?;
    let (edge, host) = (&farm.edges[0], &farm.hosts[0]);
    farm.serving(|| {
        for family in Family::BOTH {
            farm.ask(family, Method::SendTo).context("the cookie")?;
            let before = edge.count(GuardProven)?;
            set_rules(
                &host.netns,
                "table inet filter { chain out { type filter hook output priority filter; \
                 tcp sport 8080 tcp flags & (syn|ack) == syn|ack drop; }; }",
            )?;
            thread::scope(|scope| {
                let client = scope.spawn(|| farm.ask(family, Method::SendTo));
                let passed = eventually("the SYN passed", LIMIT, || {
                    Ok(edge.count(GuardProven)? > before)
                });
                set_rules(&host.netns, "")?;
                passed?;
                client.join().expect("the client panicked")?;
                Ok::<_, anyhow::Error>(())
            })
            .with_context(|| family.to_string())?;
        }
        // Those that asked for the cookies alone.
        ensure!(edge.count(GuardReferred)? == 2, "{:?}", edge.tfo.stats()?);
        Ok(())
    })
}

/// An edge answers no SYN that the kernel would not forward, and the MTU behind the edge bounds the
/// MSS.
#[test]
fn an_edge_answers_as_the_kernel_would_forward() -> Result<()> {
    let farm = Farm::new(1, 1)?;
    farm.guard_hosts()?;
    farm.guard_edges("tc")?;
    let edge = &farm.edges[0];
    let link = LinkSocket::open(&farm.client.netns, "front", Frames::None)?;
    let server = service(Family::V4);
    let seen = |count: i64| {
        eventually("the SYN is seen", LIMIT, || {
            Ok(edge.count(Elsewhere)? + edge.count(GuardReferred)? >= count)
        })
    };
    // The route to the host is known by now.
    farm.serving(|| farm.ask(Family::V4, Method::Plain).map(drop))?;
    let first = edge.count(Elsewhere)? + edge.count(GuardReferred)?;
    let referred = edge.count(GuardReferred)?;

    let mut expired = frame(&Segment::syn(stranger(7), server), edge)?;
    // TTL, and the header's checksum.
    expired[22] = 1;
    expired[24..26].fill(0);
    let sum = checksum(&expired[14..34], 0).to_be_bytes();
    expired[24..26].copy_from_slice(&sum);
    link.send(&expired)?;
    seen(first + 1)?;
    ensure!(edge.count(GuardReferred)? == referred, "TTL 1 was answered");

    // A source of the other side, where the kernel filters sources.
    edge.netns
        .set_sysctl("net.ipv4.conf.front.rp_filter", "1")?;
    farm.guard_edge(edge, &[])?;
    let inside: SocketAddr = (Ipv4Addr::new(10, 82, 0, 21), 40_000).into();
    link.send(&frame(&Segment::syn(inside, server), edge)?)?;
    seen(first + 2)?;
    ensure!(
        edge.count(GuardReferred)? == referred,
        "the inside was answered"
    );
    edge.netns
        .set_sysctl("net.ipv4.conf.front.rp_filter", "0")?;
    farm.guard_edge(edge, &[])?;

    for (netns, device) in [(&edge.netns, "back"), (&farm.hosts[0].netns, "back")] {
        netns.configure(&[format!("link set {device} mtu 1280")])?;
    }
    farm.serving(|| {
        for family in Family::BOTH {
            let (connection, _) = farm.ask(family, Method::Plain)?;
            let headers = if family == Family::V4 { 40 } else { 60 };
            let size = connection.terms()?.segment_size;
            ensure!(size == 1280 - headers - 12, "{family}: {size}");
        }
        Ok(())
    })
}

/// The challenge in a SYN-ACK of the service to this client.
pub(super) fn challenge(link: &LinkSocket, client: SocketAddr) -> Result<Challenge> {
    while let Some(came) = link.receive(Duration::from_secs(5))? {
        let parsed = etherparse::SlicedPacket::from_ethernet(&came)?;
        let Some(etherparse::TransportSlice::Tcp(tcp)) = &parsed.transport else {
            continue;
        };
        let ours = tcp.source_port() == PORT && tcp.destination_port() == client.port();
        if ours && tcp.syn() && tcp.ack() {
            let tcp: &TcpSlice<'_> = tcp;
            return Ok(Challenge::of(tcp));
        }
    }
    anyhow::bail!("no SYN-ACK")
}

/// The ACK that answers `challenge` to a SYN with the number 1000.
pub(super) fn answer(
    client: SocketAddr,
    server: SocketAddr,
    challenge: &Challenge,
) -> Result<Segment> {
    let mut options = b"\x01\x01\x08\x0a\0\0\0\x01".to_vec();
    options.extend(challenge.clock.context("no timestamps")?.to_be_bytes());
    Ok(Segment::new(client, server, flag::ACK)
        .numbers(1001, challenge.sequence.wrapping_add(1))
        .options(&options))
}

/// Hosts that guard themselves under one secret: the network may send a SYN to one and the ACK to another.
#[test]
fn a_challenge_of_one_host_is_answered_at_another() -> Result<()> {
    let farm = Farm::new(1, 2)?;
    let edge = &farm.edges[0];
    for host in &farm.hosts {
        host.tfo.done(&["attach", "back", "--mode", "tc"])?;
        let set = ["guard", "set", "on", "--port", "8080", "--secret-file"];
        host.tfo.done(&[&set[..], &[farm.secret.path()]].concat())?;
    }
    let link = LinkSocket::open(&farm.client.netns, "front", Frames::All)?;
    let client = stranger(7);
    let server = service(Family::V4);
    farm.serving(|| {
        send_to(edge, &farm.hosts[0])?;
        let syn = Segment::syn(client, server).options(&linux_options(&[]));
        link.send(&frame(&syn.numbers(1000, 0), edge)?)?;
        let challenge = challenge(&link, client)?;
        send_to(edge, &farm.hosts[1])?;
        link.send(&frame(&answer(client, server, &challenge)?, edge)?)?;
        eventually("the other host opens it", LIMIT, || {
            Ok(farm.hosts[1].count(GuardAccepted)? == 1)
        })?;
        ensure!(farm.hosts[0].count(GuardChallenged)? == 1);
        ensure!(sum(&farm.hosts, GuardWrongAcks)? == 0);
        Ok(())
    })
}

/// Conntrack of the edge does not see the handshake: a firewall that wants it to is found, and the printed rules make it
/// work.
#[test]
fn a_stateful_firewall_of_an_edge_is_found() -> Result<()> {
    let farm = Farm::new(1, 1)?;
    let edge = &farm.edges[0];
    farm.guard_hosts()?;
    edge.tfo.done(&["attach", "front", "--mode", "tc"])?;
    edge.netns
        .set_sysctl("net.netfilter.nf_conntrack_tcp_loose", "0")?;
    set_rules(
        &edge.netns,
        "table inet filter { chain forward { type filter hook forward priority filter; policy drop; \
         ct state established,related accept; tcp dport 8080 ct state new accept; }; }",
    )?;
    let vip = [
        "guard",
        "set",
        "on",
        "--port",
        "8080",
        "--vip",
        "198.51.100.7",
    ];
    let set = [&vip[..], &["--secret-file", farm.secret.path()]].concat();
    let refused = edge.tfo.run(&set)?;
    ensure!(refused.status.code() == Some(1), "{refused:?}");
    let parts = ["conntrack", "port 8080 of the hosts behind", "--force"];
    ensure_says(&refused.stderr, &parts)?;
    type_in(&edge.netns, &printed(&refused))?;
    edge.tfo.done(&set)?;
    farm.serving(|| {
        farm.ask_often(Family::V4, Method::Plain, 5)?;
        ensure!(farm.hosts[0].count(GuardAccepted)? == 5);
        Ok(())
    })
}
