//! Handshakes by way of an edge: sizes of segments, data on the ACK, what the network loses, repeats or forges, and a host that
//! is lost.

use std::{
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{Segment, flag, linux_options},
    poll::eventually,
    seed::rng,
    socket::Method,
    tfo::LIMIT,
    veth::Family,
};

use super::{
    VIPS,
    farm::{Farm, Member, REQUEST, say, send_to, service},
    strangers::{answer, challenge, frame, stranger},
};

/// Sets the MTU of these devices.
fn set_mtu(member: &Member, devices: &[&str], mtu: u32) -> Result<()> {
    let commands = devices
        .iter()
        .map(|device| format!("link set {device} mtu {mtu}"));
    member.netns.configure(&commands.collect::<Vec<_>>())
}

/// MTUs from the least to jumbo frames, of the client's link and of the service's: the client is told what the host would
/// tell it.
#[test]
fn segments_have_the_sizes_that_they_have_without_an_edge() -> Result<()> {
    let farm = Farm::new(1, 1)?;
    let (edge, host) = (&farm.edges[0], &farm.hosts[0]);
    for port in ["front2", "front11", "front21", "back11", "back21"] {
        farm.switch
            .configure(&[format!("link set {port} mtu 9000")])?;
    }
    farm.guard_hosts()?;
    farm.guard_edges("tc")?;
    let off = [&["guard", "set", "off", "--port", "8080"][..], &VIPS].concat();
    farm.serving(|| {
        // The least comes last: it removes IPv6 from the devices for good.
        for (client, server) in [
            (9000, 9000),
            (1500, 9000),
            (9000, 1500),
            (1492, 1500),
            (1280, 1280),
            (576, 576),
        ] {
            set_mtu(&farm.client, &["front"], client)?;
            for member in [edge, host] {
                set_mtu(member, &["front", "back"], server)?;
            }
            let families = if client < 1280 {
                &[Family::V4][..]
            } else {
                &Family::BOTH
            };
            for (family, timestamps) in families.iter().flat_map(|it| [(*it, "1"), (*it, "0")]) {
                let netns = &farm.client.netns;
                netns.set_sysctl("net.ipv4.tcp_timestamps", timestamps)?;
                edge.tfo.done(&off)?;
                let without = farm.ask(family, Method::Plain)?.0.terms()?;
                farm.guard_edge(edge, &[])?;
                let before = host.count(GuardAccepted)?;
                let with = farm.ask(family, Method::Plain)?.0.terms()?;
                ensure!(host.count(GuardAccepted)? == before + 1, "not by the edge");
                ensure!(
                    without == with,
                    "{family}, MTU {client}, {server}: without {without:?}, with {with:?}"
                );
            }
        }
        Ok(())
    })
}

/// The ACK that answers the challenge of an edge carries data.
#[test]
fn data_may_come_with_the_ack() -> Result<()> {
    let farm = Farm::guarded(1, 1, "tc")?;
    farm.serving(|| {
        for family in Family::BOTH {
            farm.ask_often(family, Method::DataOnAck, 5)?;
        }
        let accepted = farm.hosts[0].count(GuardAccepted)?;
        ensure!(accepted == 10, "{accepted} of 10");
        Ok(())
    })
}

/// A SYN that is sent again has the same answer; a lost ACK is made up for by the data behind it; and both may come twice.
#[test]
fn what_is_lost_or_repeated_opens_one_connection() -> Result<()> {
    let farm = Farm::guarded(1, 1, "tc")?;
    let (edge, host) = (&farm.edges[0], &farm.hosts[0]);
    let link = LinkSocket::open(&farm.client.netns, "front", Frames::All)?;
    let server = service(Family::V4);
    farm.serving(|| {
        // A time slot may end between the two SYNs, but not twice in a row.
        let twice = |number: u32| -> Result<_> {
            let client = stranger(number);
            let syn = Segment::syn(client, server).options(&linux_options(&[]));
            let syn = frame(&syn.numbers(1000, 0), edge)?;
            let asked = || -> Result<_> {
                link.send(&syn)?;
                challenge(&link, client)
            };
            Ok((client, asked()?, asked()?))
        };
        let (mut client, mut first, mut second) = twice(7)?;
        if first != second {
            (client, first, second) = twice(8)?;
        }
        ensure!(first == second, "{first:?}, {second:?}");
        let data = frame(&answer(client, server, &second)?.data(REQUEST), edge)?;
        for _ in 0..3 {
            link.send(&data)?;
        }
        eventually("the host opens it", LIMIT, || {
            Ok(host.count(GuardAccepted)? > 0)
        })?;
        // What was sent before has been seen when this one is open.
        farm.ask(Family::V4, Method::Plain)?;
        let accepted = host.count(GuardAccepted)?;
        ensure!(accepted == 2, "{accepted} connections");
        Ok(())
    })
}

/// Forged answers at full speed open nothing, and honest clients connect meanwhile.
#[test]
fn forged_answers_are_in_nobodys_way() -> Result<()> {
    let farm = Farm::guarded(1, 1, "tc")?;
    let (edge, host) = (&farm.edges[0], &farm.hosts[0]);
    let link = LinkSocket::open(&farm.client.netns, "front", Frames::None)?;
    let server = service(Family::V4);
    let mut random = rng()?;
    let frames = (0..10_000).map(|_| {
        let client = stranger(random.u32(1..1 << 24));
        let ack = Segment::new(client, server, flag::ACK);
        frame(&ack.numbers(random.u32(..), random.u32(..)), edge)
    });
    let frames = frames.collect::<Result<Vec<_>>>()?;
    let ended = AtomicBool::new(false);
    farm.serving(|| {
        thread::scope(|scope| {
            let flood = scope.spawn(|| {
                let frames = frames.iter().cycle();
                let mut sent = frames.take_while(|_| !ended.load(Ordering::Relaxed));
                sent.try_for_each(|frame| link.send(frame))
            });
            let arrived = eventually("forged answers arrive", LIMIT, || {
                Ok(host.count(GuardWrongAcks)? > 0)
            });
            let honest = Family::BOTH.map(|family| farm.ask_often(family, Method::Plain, 20));
            ended.store(true, Ordering::Relaxed);
            flood.join().expect("the flood panicked")?;
            arrived?;
            for asked in honest {
                asked?;
            }
            let accepted = host.count(GuardAccepted)?;
            ensure!(accepted == 40, "{accepted} of 40, and nothing forged");
            Ok(())
        })
    })
}

/// A host that is lost takes its own connections along, and no others; the edge's route is all that changes.
#[test]
fn a_lost_host_takes_its_own_connections_along() -> Result<()> {
    let farm = Farm::guarded(1, 2, "tc")?;
    let edge = &farm.edges[0];
    let (lost, other) = (&farm.hosts[0], &farm.hosts[1]);
    let plug = |state: &str| {
        let ports = ["front21", "back21"].map(|port| format!("link set {port} {state}"));
        farm.switch.configure(&ports)
    };
    farm.serving(|| {
        for family in Family::BOTH {
            send_to(edge, other)?;
            let (kept, answered) = farm.ask(family, Method::Plain)?;
            send_to(edge, lost)?;
            let (_, by) = farm.ask(family, Method::Plain)?;
            ensure!(by != answered, "{by} twice");
            plug("down")?;
            send_to(edge, other)?;
            let context = || format!("{family}, after the loss");
            let (hosts, _) = farm
                .ask_often(family, Method::Plain, 5)
                .with_context(context)?;
            ensure!(hosts.iter().eq([&answered]), "{hosts:?}");
            kept.send(REQUEST)?;
            ensure!(say(&kept).with_context(context)? == answered);
            plug("up")?;
        }
        Ok(())
    })
}
