//! Other receive paths than one Ethernet interface with XDP: a device without Ethernet headers, TC, several
//! interfaces.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use aya::{
    EbpfLoader,
    programs::{LinkOrder, SchedClassifier, TcAttachType, tc::TcAttachOptions},
};
use tfo_common::abi::TC_PROGRAM;
use tfo_testbed::{
    netns::Netns,
    packet::{Segment, cookie, fast_open, linux_options},
    socket::{Listener, Method},
    testbed::{Tally, Testbed},
    tfo::Tfo,
    tun::Tun,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, SERVER_INTERFACE},
    xdp,
};
use tfo_userspace::datapath::OBJECT;

const TWO: Tally = Tally {
    requests: 2,
    passive: 2,
    failed: 0,
    alt_key: 0,
    overflows: 0,
};

/// Sends a cookie request and a valid cookie in each family.
fn two_of_each(testbed: &Testbed) -> Result<()> {
    let listener = testbed.listen(Family::V6)?;
    for family in Family::BOTH {
        testbed.request_cookie(&listener, family)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    testbed.expect(TWO)?;
    Ok(())
}

fn ensure_mode(tfo: &Tfo, mode: &str) -> Result<()> {
    let status = tfo.json(&["status"])?;
    ensure!(status["interfaces"][0]["mode"] == mode, "{status}");
    Ok(())
}

#[test]
fn tc_counts_alike_and_leaves_nothing() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", "tc"])?;
    ensure_mode(&testbed.tfo, "tc")?;
    ensure!(xdp::xdp_attached(&testbed.pair.server, SERVER_INTERFACE)?.is_none());
    two_of_each(&testbed)?;
    let again = testbed.tfo.run(&["attach", SERVER_INTERFACE])?;
    ensure!(again.stderr.contains("attached already"), "{again:?}");
    testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
    xdp::ensure_pinned(&testbed.pair.server, false)?;
    let query = || SchedClassifier::query_tcx(SERVER_INTERFACE, TcAttachType::Ingress);
    let (_, programs) = testbed.pair.server.run(query)?;
    ensure!(programs.is_empty(), "{programs:?}");
    Ok(())
}

/// The other program is attached before tfo's or after it: tfo's runs first in both cases.
#[test]
fn tc_runs_beside_another_tc_program() -> Result<()> {
    let pair = Pair::new()?;
    let mut object = EbpfLoader::new().load(OBJECT)?;
    let other: &mut SchedClassifier = object
        .program_mut(TC_PROGRAM)
        .context("no program")?
        .try_into()?;
    other.load()?;
    pair.server.run(|| {
        let last = TcAttachOptions::TcxOrder(LinkOrder::last());
        let ingress = TcAttachType::Ingress;
        other
            .attach_with_options(SERVER_INTERFACE, ingress, last)
            .map(drop)
    })?;
    let testbed = Testbed::attach(pair, &["--mode", "tc"])?;
    two_of_each(&testbed)?;
    testbed.tfo.done(&["detach", "--all"])?;
    let query = || SchedClassifier::query_tcx(SERVER_INTERFACE, TcAttachType::Ingress);
    let (_, programs) = testbed.pair.server.run(query)?;
    ensure!(programs.len() == 1, "{programs:?}");
    Ok(())
}

#[test]
fn auto_goes_beside_another_xdp_program() -> Result<()> {
    for attach in [xdp::Other::attach, xdp::Other::attach_by_netlink] {
        let pair = Pair::new()?;
        let _other = attach(&pair.server, SERVER_INTERFACE)?;
        let testbed = Testbed::idle(pair)?;
        for mode in ["native", "generic"] {
            let said = testbed
                .tfo
                .run(&["attach", SERVER_INTERFACE, "--mode", mode])?;
            said.ensure_refused(&["another XDP program is attached", "--mode tc"])
                .context(mode)?;
        }
        testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
        two_of_each(&testbed)?;
        // Also where XDP would be the hook for the job.
        testbed.tfo.done(&["policy", "set", "--bad", "drop"])?;
        let status = testbed.tfo.json(&["status"])?;
        let reason = status["interfaces"][0]["mode_reason"].as_str();
        ensure!(
            reason.is_some_and(|it| it.contains("another XDP")),
            "{status}"
        );
        ensure_mode(&testbed.tfo, "tc")?;
        testbed.tfo.done(&["policy", "clear"])?;
        testbed.tfo.done(&["guard", "set", "on"])?;
        testbed.pair.forget_cookies()?;
        let listener = testbed.listen(Family::V6)?;
        for family in Family::BOTH {
            testbed.request_cookie(&listener, family)?;
            testbed.in_syn(&listener, family, Method::SendTo)?;
        }
        let counted = testbed.equal()?.counters;
        ensure!(counted["GuardAccepted"] == 2, "{counted:?}");
        // The other program is still there.
        testbed.tfo.done(&["detach", "--all"])?;
        ensure!(xdp::xdp_attached(&testbed.pair.server, SERVER_INTERFACE)?.is_some());
    }
    Ok(())
}

/// The kernel keeps a program that has a link from being replaced by one without.
#[test]
fn a_program_by_netlink_does_not_replace_ours() -> Result<()> {
    for mode in ["native", "generic"] {
        let testbed = Testbed::attach(Pair::new()?, &["--mode", mode])?;
        let other = xdp::Other::attach_by_netlink(&testbed.pair.server, SERVER_INTERFACE);
        ensure!(other.is_err(), "{mode}: the other program is attached");
        ensure_mode(&testbed.tfo, mode)?;
        two_of_each(&testbed)?;
    }
    Ok(())
}

/// The kernel accepts SYNs with a tag of VLAN 0 or an extension header as it does others.
#[test]
fn tags_and_extension_headers_count_alike() -> Result<()> {
    for mode in ["native", "generic", "tc"] {
        let testbed = Testbed::attach(Pair::new()?, &["--mode", mode])?;
        let listener = testbed.listen(Family::V6)?;
        for family in Family::BOTH {
            let client = SocketAddr::new(family.spare(1), 40_000);
            testbed.pair.set_neighbour(client.ip(), NOBODYS_MAC)?;
            let server = SocketAddr::new(family.server(), listener.port());
            let mut syn = Segment::syn(client, server)
                .options(&linux_options(&fast_open(b"")))
                .ip_options();
            if family == Family::V6 {
                syn = syn.extension(44, &[0, 0, 1, 2, 3, 4]);
            }
            let syn = syn.vlan(etherparse::EtherType::VLAN_TAGGED_FRAME);
            send(&testbed.pair, &syn)?;
        }
        testbed
            .expect(Tally {
                requests: 2,
                ..Tally::default()
            })
            .context(mode)?;
    }
    Ok(())
}

/// Sends a frame to the server's interface.
fn send(pair: &Pair, segment: &Segment) -> Result<()> {
    use tfo_testbed::link::{Frames, LinkSocket};
    let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::All)?;
    link.send(&segment.frame())?;
    Ok(())
}

#[test]
fn a_tun_device_counts_alike() -> Result<()> {
    const KEY: &str = "00112233-44556677-8899aabb-ccddeeff";
    for (mode, mirror) in [
        ("auto", "exact"),
        ("generic", "packet"),
        ("tc", "exact"),
        ("tc", "packet"),
    ] {
        let server = Netns::new("tun")?;
        server.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        server.set_sysctl("net.ipv4.tcp_fastopen_key", KEY)?;
        let tun = Tun::new(&server, "tun0")?;
        server.configure(&[
            "link set tun0 up",
            "addr add 10.77.0.1/24 dev tun0",
            "addr add fd77::1/64 dev tun0 nodad",
        ])?;
        let address = SocketAddr::new(Family::V6.unspecified(), 0);
        let listener = Listener::fast_open(&server, address)?;
        let tfo = Tfo::new(&server);
        tfo.done(&["attach", "tun0", "--mode", mode, "--mirror", mirror])?;
        ensure_mode(&tfo, if mode == "generic" { "generic" } else { "tc" })?;
        let key = tfo_testbed::keys::parse(KEY)?[0].to_bytes();
        for family in Family::BOTH {
            let (client, own) = (family.client(), family.server());
            let good = cookie(&key, client, own);
            for (port, cookie) in [(40_000, &b""[..]), (40_001, &good), (40_002, b"no good.")] {
                let to = SocketAddr::new(own, listener.port());
                let syn = Segment::syn(SocketAddr::new(client, port), to)
                    .options(&linux_options(&fast_open(cookie)))
                    .data(b"data");
                tun.receive(&syn.packet())?;
            }
        }
        let stats = tfo.stats()?;
        let tally = |named: &tfo_testbed::tfo::Named| {
            Tally::of(|name| named.get(name).copied().unwrap_or_default())
        };
        let expected = Tally {
            requests: 2,
            passive: 2,
            failed: 2,
            alt_key: 0,
            overflows: 0,
        };
        ensure!(
            tally(&stats.counters) == expected && tally(&stats.kernel) == expected,
            "{mode}, {mirror}: {stats:?}"
        );
    }
    Ok(())
}

/// A second veth pair to the same server: the client's and the server's interface.
const SECOND: [&str; 2] = ["client1", "server1"];

/// Sends a cookie request over the second veth pair.
fn request_by_second(pair: &Pair, listener: &Listener, port: u16) -> Result<()> {
    use tfo_testbed::link::{Frames, LinkSocket};
    let client = SocketAddr::new([10, 78, 0, 2].into(), port);
    let server = SocketAddr::new([10, 78, 0, 1].into(), listener.port());
    let syn = Segment::syn(client, server).options(&fast_open(b""));
    let mut frame = syn.padded_frame().to_vec();
    frame[..6].copy_from_slice(&[2, 0, 0, 0, 1, 1]);
    LinkSocket::open(&pair.client, SECOND[0], Frames::All)?.send(&frame)?;
    Ok(())
}

#[test]
fn several_interfaces_add_up() -> Result<()> {
    const REQUESTS: &str = "TCPFastOpenCookieReqd";
    let pair = Pair::new()?;
    let [at_client, at_server] = SECOND;
    pair.client.configure(&[
        format!(
            "link add {at_client} type veth peer name {at_server} netns {}",
            pair.server.name()
        ),
        format!("link set {at_client} up"),
    ])?;
    pair.server.configure(&[
        format!("link set {at_server} address 02:00:00:00:01:01"),
        format!("link set {at_server} up"),
        format!("addr add 10.78.0.1/24 dev {at_server}"),
        format!("neigh replace 10.78.0.2 lladdr 02:00:00:00:01:02 dev {at_server} nud permanent"),
    ])?;
    let testbed = Testbed::attach(pair, &[])?;
    let listener = testbed.listen(Family::V4)?;
    let interfaces = |expected: &[(&str, i64)]| -> Result<()> {
        let stats = testbed.tfo.json(&["stats"])?;
        for (name, requests) in expected {
            let own = &stats["interfaces"][*name][REQUESTS];
            // A counter that is 0 is left out.
            ensure!(own.as_i64().unwrap_or(0) == *requests, "{name}: {stats}");
        }
        let sum: i64 = expected.iter().map(|(_, requests)| requests).sum();
        let interfaces = stats["interfaces"].as_object().context("no interfaces")?;
        ensure!(
            interfaces.len() == expected.len()
                && stats["counters"][REQUESTS] == sum
                && stats["kernel"][REQUESTS] == sum
                && stats["drift"][REQUESTS] == 0,
            "{stats}"
        );
        Ok(())
    };

    // Without tfo on the second interface, its SYNs are drift. Attach resets the drift to zero.
    testbed.exchange(&listener, Family::V4, Method::SendTo)?;
    interfaces(&[(SERVER_INTERFACE, 1)])?;
    request_by_second(&testbed.pair, &listener, 40_000)?;
    ensure!(testbed.tfo.json(&["stats"])?["drift"][REQUESTS] == -1);
    testbed.tfo.done(&["attach", at_server, "--mode", "tc"])?;
    interfaces(&[(SERVER_INTERFACE, 1), (at_server, 0)])?;
    for port in 40_001..40_004 {
        request_by_second(&testbed.pair, &listener, port)?;
    }
    testbed.pair.forget_cookies()?;
    testbed.exchange(&listener, Family::V4, Method::SendTo)?;
    interfaces(&[(SERVER_INTERFACE, 2), (at_server, 3)])?;

    // Detach removes an interface's counts on both sides.
    testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
    interfaces(&[(at_server, 3)])?;
    request_by_second(&testbed.pair, &listener, 40_004)?;
    interfaces(&[(at_server, 4)])
}
