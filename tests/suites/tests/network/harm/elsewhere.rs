//! SYNs that the kernel does not deliver to a socket of this host: nobody answers them, and nobody counts them.

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter;
use tfo_testbed::{
    keys,
    link::{Frames, LinkSocket},
    packet::{Segment, cookie, fast_open, linux_options},
    poll::eventually,
    socket::{Connection, Listener, Method},
    testbed::{Tally, Testbed},
    veth::{CLIENT_INTERFACE, Family, Mac, NOBODYS_MAC, Pair, SERVER_INTERFACE, SERVER_MAC},
    xdp::{Mode, Other},
};
use tfo_userspace::kernel::netlink::RouteNotices;

const PORT: u16 = 9000;
/// The IPv4 option without effect (RFC 791).
const NOP: u8 = 1;
/// Offset of an IPv4 header's checksum.
const CHECKSUM: usize = 10;
const LIMIT: std::time::Duration = std::time::Duration::from_secs(20);

/// A SYN with a valid cookie and data.
fn segment(source: &str, destination: &str, port: u16) -> Result<Segment> {
    let source = SocketAddr::new(source.parse()?, port);
    let destination = SocketAddr::new(destination.parse()?, PORT);
    let key = keys::parse(keys::COUNTING)?[0].to_bytes();
    let valid = cookie(&key, source.ip(), destination.ip());
    Ok(Segment::syn(source, destination)
        .options(&linux_options(&fast_open(&valid)))
        .data(b"take this"))
}

/// The frame of [`segment`], to this MAC address.
fn frame(to: Mac, source: &str, destination: &str) -> Result<Vec<u8>> {
    let mut frame = segment(source, destination, 40_000)?.frame().to_vec();
    frame[..6].copy_from_slice(&to);
    Ok(frame)
}

/// A SYN with `words` words of no-operations as options of its IPv4 header; the lowest bit of the header's byte `flipped` is
/// inverted.
fn with_options(words: u16, flipped: Option<usize>) -> Result<Vec<u8>> {
    // A connection of its own.
    let segment = segment("10.77.0.60", "10.77.0.1", 40_000 + words)?;
    let segment = segment.ipv4_options(&vec![NOP; 4 * usize::from(words)]);
    let mut frame = segment.frame().to_vec();
    if let Some(at) = flipped {
        frame[14 + at] ^= 1;
    }
    Ok(frame)
}

const BROADCAST: Mac = [0xff; 6];
const MULTICAST: Mac = [1, 0, 0x5e, 0, 0, 1];

/// MAC address, source, destination: none of them is for a socket of this host.
const FRAMES: [(Mac, &str, &str); 25] = [
    (NOBODYS_MAC, "10.77.0.60", "10.77.0.1"),
    (BROADCAST, "10.77.0.60", "10.77.0.1"),
    (MULTICAST, "10.77.0.60", "10.77.0.1"),
    (NOBODYS_MAC, "fd77::60", "fd77::1"),
    (SERVER_MAC, "10.77.0.60", "10.77.0.77"),
    (SERVER_MAC, "10.77.0.60", "192.0.2.1"),
    (SERVER_MAC, "10.77.0.60", "10.77.0.255"),
    (SERVER_MAC, "10.77.0.60", "255.255.255.255"),
    (SERVER_MAC, "10.77.0.60", "224.0.0.1"),
    (SERVER_MAC, "10.77.0.60", "127.0.0.1"),
    (SERVER_MAC, "10.77.0.1", "10.77.0.1"),
    (SERVER_MAC, "224.0.0.1", "10.77.0.1"),
    (SERVER_MAC, "fd77::60", "fd77::77"),
    (SERVER_MAC, "fd77::60", "ff02::1"),
    (SERVER_MAC, "0.0.0.0", "10.77.0.1"),
    (SERVER_MAC, "255.255.255.255", "10.77.0.1"),
    (SERVER_MAC, "127.0.0.1", "10.77.0.1"),
    (SERVER_MAC, "10.77.0.60", "0.0.0.0"),
    (SERVER_MAC, "::", "fd77::1"),
    (SERVER_MAC, "::1", "fd77::1"),
    (SERVER_MAC, "ff02::1", "fd77::1"),
    (SERVER_MAC, "fd77::60", "::"),
    // IPv4-mapped addresses.
    (SERVER_MAC, "::ffff:10.77.0.60", "fd77::1"),
    (SERVER_MAC, "fd77::60", "::ffff:10.77.0.1"),
    (SERVER_MAC, "::ffff:10.77.0.60", "::ffff:10.77.0.1"),
];

fn pair() -> Result<Pair> {
    let pair = Pair::new()?;
    pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
    for source in ["10.77.0.60", "fd77::60"] {
        pair.set_neighbour(source.parse()?, NOBODYS_MAC)?;
    }
    Ok(pair)
}

/// Sends all frames, and checks that nothing comes back and that nobody counts them. Gives their number.
fn send_all(testbed: &Testbed) -> Result<i64> {
    let pair = &testbed.pair;
    let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::All)?;
    let frames = FRAMES.iter().map(|(mac, from, to)| frame(*mac, from, to));
    // Without options, and with them: the checksum is wrong, or the first option's byte, or the last one's.
    let wrong = [
        (0, CHECKSUM),
        (1, CHECKSUM),
        (2, 20),
        (7, CHECKSUM),
        (10, 59),
    ];
    let corrupt = wrong.map(|(words, at)| with_options(words, Some(at)));
    let frames: Vec<_> = frames.chain(corrupt).collect::<Result<_>>()?;
    for (index, frame) in frames.iter().enumerate() {
        link.send(frame)?;
        pair.barrier()?;
        testbed
            .expect(Tally::default())
            .with_context(|| format!("{:?}: {frame:02x?}", FRAMES.get(index)))?;
    }
    while let Some(came) = link.receive(std::time::Duration::ZERO)? {
        let is_own = frames.contains(&came);
        let port = PORT.to_be_bytes();
        let from_port = came.get(34..36) == Some(&port) || came.get(54..56) == Some(&port);
        ensure!(is_own || !from_port, "an answer: {came:02x?}");
    }
    Ok(i64::try_from(frames.len())?)
}

/// The kernel counts none of them, and neither does `tfo`, in any mode; and the guard answers none.
#[test]
fn nobody_answers_and_nobody_counts() -> Result<()> {
    for mode in ["native", "generic", "tc"] {
        for guarded in [false, true] {
            let testbed = Testbed::attach(pair()?, &["--mode", mode])?;
            let _client = (mode == "native")
                .then(|| Other::attach(&testbed.pair.client, CLIENT_INTERFACE))
                .transpose()?;
            let any = SocketAddr::new(Family::V6.unspecified(), PORT);
            let _listener = Listener::fast_open(&testbed.pair.server, any)?;
            if guarded {
                let port = PORT.to_string();
                testbed.tfo.done(&["guard", "set", "on", "--port", &port])?;
            }
            let sent = send_all(&testbed).context(mode)?;
            let stats = testbed.tfo.stats()?;
            let elsewhere = stats.counters["Elsewhere"];
            ensure!(
                elsewhere == sent,
                "{mode}, {guarded}: {elsewhere} of {sent}"
            );
        }
    }
    Ok(())
}

/// Each length of an IPv4 header, whole and with a wrong bit: the kernel drops the latter alone, and `tfo` knows.
#[test]
fn headers_of_each_length_are_checked() -> Result<()> {
    for mode in ["native", "generic", "tc"] {
        let testbed = Testbed::attach(pair()?, &["--mode", mode])?;
        let pair = &testbed.pair;
        let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::All)?;
        let any = SocketAddr::new(Family::V6.unspecified(), PORT);
        let _listener = Listener::fast_open(&pair.server, any)?;
        let mut tally = Tally::default();
        for words in 0..=10 {
            let last = 20 + 4 * usize::from(words) - 1;
            for wrong in [Some(CHECKSUM), Some(last), None] {
                link.send(&with_options(words, wrong)?)?;
                pair.barrier()?;
                tally.passive += i64::from(wrong.is_none());
                testbed
                    .expect(tally)
                    .with_context(|| format!("{mode}, {words} words, {wrong:?}"))?;
            }
        }
    }
    Ok(())
}

/// The kernel tells of routes that come and go, and of devices; of nothing while nothing changes.
#[test]
fn the_kernels_notices_of_routes_are_read() -> Result<()> {
    let pair = pair()?;
    let server = &pair.server;
    let notices = server.run(RouteNotices::new)?;
    while notices.take()? {}
    for change in ["addr add", "addr del"] {
        for address in ["10.77.0.9/24", "fd77::9/64"] {
            server.configure(&[format!("{change} {address} dev {SERVER_INTERFACE}")])?;
            let what = format!("a notice of {change} {address}");
            eventually(&what, LIMIT, || Ok(notices.take()?))?;
        }
    }
    server.configure(&[format!("link set {SERVER_INTERFACE} down")])?;
    eventually("a notice of the device", LIMIT, || Ok(notices.take()?))?;
    eventually("no more notices", LIMIT, || Ok(!notices.take()?)).map(drop)
}

/// An address that comes later is this host's from then on, and one that goes is not.
#[test]
fn addresses_are_followed() -> Result<()> {
    let testbed = Testbed::idle(pair()?)?;
    let service = testbed
        .tfo
        .start(&["run", "--interface", SERVER_INTERFACE])?;
    eventually("the service has attached", LIMIT, || {
        Ok(testbed
            .tfo
            .run(&["status"])?
            .stdout
            .contains(SERVER_INTERFACE))
    })?;
    let server = &testbed.pair.server;
    let any = SocketAddr::new(Family::V6.unspecified(), PORT);
    let listener = Listener::fast_open(server, any)?;
    server.configure(&[format!("addr add 10.77.0.9/24 dev {SERVER_INTERFACE}")])?;
    let to = SocketAddr::new("10.77.0.9".parse()?, PORT);
    // Not by `tfo stats`, which follows the routes itself.
    let requests = || anyhow::Ok(testbed.drift()?.ours.total.get(Counter::CookieReqd));
    eventually("a request to the new address is counted", LIMIT, || {
        testbed.pair.client.ip(&["tcp_metrics", "flush"])?;
        let before = requests()?;
        let _client = Connection::open(&testbed.pair.client, to, Method::SendTo, b"hello")?;
        listener.accept()?;
        Ok(requests()? > before)
    })?;
    service.terminate(LIMIT)?;
    Ok(())
}

/// A NIC takes its program along into another namespace, where it touches nothing.
#[test]
fn a_nic_that_moves_leaves_its_rules_behind() -> Result<()> {
    for mode in Mode::ALL {
        let testbed = Testbed::attach(pair()?, &["--mode", &mode.to_string()])?;
        let drop = ["policy", "set", "--request", "drop", "--data", "drop"];
        testbed.tfo.done(&drop)?;
        let other = tfo_testbed::netns::Netns::new("other")?;
        let from = &testbed.pair.server;
        from.configure(&[format!(
            "link set {SERVER_INTERFACE} netns {}",
            other.name()
        )])?;
        other.configure(&[
            format!("link set {SERVER_INTERFACE} up"),
            format!("addr add 10.77.0.1/24 dev {SERVER_INTERFACE}"),
        ])?;
        other.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
        let any = SocketAddr::new(Family::V6.unspecified(), PORT);
        let listener = Listener::fast_open(&other, any)?;
        let to = SocketAddr::new(Family::V4.server(), PORT);
        let visit = || -> Result<bool> {
            let client = Connection::open(&testbed.pair.client, to, Method::SendTo, b"hello")?;
            let accepted = listener.accept()?;
            ensure!(accepted.receive()? == b"hello");
            Ok(client.info()?.syn_data_taken)
        };
        testbed.pair.client.ip(&["tcp_metrics", "flush"])?;
        let in_syn = [visit()?, visit()?];
        ensure!(in_syn == [false, true], "{mode}: {in_syn:?}");
    }
    Ok(())
}
