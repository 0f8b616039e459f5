//! Attacks on a listener, with the bare kernel and with the guard: with it, no fewer honest clients connect, whatever the
//! attack.

use std::{
    net::{IpAddr, SocketAddr},
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys,
    link::{Frames, LinkSocket},
    netns::Netns,
    packet::{Segment, checksum, cookie, fast_open, linux_options},
    socket::{Connection, Listener, Method, Settings},
    testbed::Testbed,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, SERVER_INTERFACE},
};

const PORT: u16 = 9000;
/// The bot's own address, and the first of a spoofer's.
const BOT: &str = "10.77.0.60";
const CLIENTS: usize = 6;

/// Frames that an attacker sends, by their number, at a rate per second.
struct Attack {
    name: &'static str,
    per_second: u32,
    frames: fn(u32) -> Vec<Vec<u8>>,
}

fn syn(source: IpAddr, port: u16) -> Segment {
    let source = SocketAddr::new(source, port);
    Segment::syn(source, SocketAddr::new(Family::V4.server(), PORT))
}

fn with_cookie(source: IpAddr, port: u16) -> Segment {
    let key = keys::parse(keys::COUNTING).expect("keys")[0].to_bytes();
    let valid = cookie(&key, source, Family::V4.server());
    syn(source, port)
        .options(&linux_options(&fast_open(&valid)))
        .data(b"take this")
}

fn bot() -> IpAddr {
    BOT.parse().expect("an address")
}

fn frame(segment: &Segment) -> Vec<Vec<u8>> {
    vec![segment.frame().to_vec()]
}

fn port(number: u32) -> u16 {
    1024 + (number % 60_000) as u16
}

/// Every attack. The client's address is [`Family::client`].
const ATTACKS: [Attack; 6] = [
    Attack {
        name: "none",
        per_second: 1,
        frames: |_| Vec::new(),
    },
    Attack {
        name: "a bot with its own cookie",
        per_second: 300,
        frames: |n| frame(&with_cookie(bot(), port(n))),
    },
    Attack {
        name: "SYNs in fragments from all addresses",
        per_second: 300,
        frames: |n| {
            let source = Family::V4.spare((n % 200) as u8);
            let whole = syn(source, port(n)).options(&linux_options(b""));
            fragments(&whole.frame(), n)
        },
    },
    Attack {
        name: "a spoofer of the client's address",
        per_second: 2000,
        frames: |n| {
            let spoofed = syn(Family::V4.client(), port(n)).options(&linux_options(b""));
            frame(&spoofed)
        },
    },
    Attack {
        name: "a NAT neighbour with the address' own cookie",
        per_second: 2000,
        frames: |n| frame(&with_cookie(Family::V4.client(), port(n))),
    },
    Attack {
        name: "spoofed SYNs from all addresses",
        per_second: 3000,
        frames: |n| {
            let source = Family::V4.spare((n % 200) as u8);
            frame(&syn(source, port(n)).options(&linux_options(b"")))
        },
    },
];

/// The IPv4 packet in `frame` in two fragments.
fn fragments(frame: &[u8], number: u32) -> Vec<Vec<u8>> {
    const ETHERNET: usize = 14;
    const IP: usize = 20;
    /// A multiple of 8 within the TCP header.
    const FIRST: usize = 24;
    let segment = &frame[ETHERNET + IP..];
    let part = |data: &[u8], offset: usize, more: bool| {
        let mut part = frame[..ETHERNET + IP].to_vec();
        part.extend(data);
        let header = &mut part[ETHERNET..][..IP];
        header[2..4].copy_from_slice(&((IP + data.len()) as u16).to_be_bytes());
        header[4..6].copy_from_slice(&(number as u16).to_be_bytes());
        let flags = (offset / 8) as u16 | if more { 0x2000 } else { 0 };
        header[6..8].copy_from_slice(&flags.to_be_bytes());
        header[10..12].fill(0);
        let sum = checksum(header, 0);
        header[10..12].copy_from_slice(&sum.to_be_bytes());
        part
    };
    vec![
        part(&segment[..FIRST], 0, true),
        part(&segment[FIRST..], FIRST, false),
    ]
}

/// The numbers of clients that connected: plain ones, and ones with a valid cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd)]
struct Connected {
    plain: usize,
    fast_open: usize,
}

/// A server with a small backlog, which answers every request.
fn serve(listener: &Listener, ended: &AtomicBool) {
    while !ended.load(Ordering::Relaxed) {
        // A spoofed request is accepted too, and has no reader.
        if let Ok(connection) = listener.accept()
            && let Ok(request) = connection.receive()
        {
            let _ = connection.send(&request);
        }
    }
}

fn connects(client: &Netns, method: Method) -> bool {
    let server = SocketAddr::new(Family::V4.server(), PORT);
    let connection = Connection::open(client, server, method, b"hello");
    connection
        .inspect_err(|error| println!("{error:#}"))
        .is_ok()
}

/// Sends the attack while clients connect.
fn connected(pair: &Pair, attack: &Attack) -> Result<Connected> {
    let link = LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::None)?;
    let settings = Settings {
        queue: Some(16),
        backlog: 64,
        ..Settings::FAST_OPEN
    };
    let any = SocketAddr::new(Family::V6.unspecified(), PORT);
    let listener = Listener::with(&pair.server, any, &settings)?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| serve(&listener, &ended));
        scope.spawn(|| {
            let start = Instant::now();
            let mut sent = 0;
            while !ended.load(Ordering::Relaxed) {
                let due = start.elapsed().as_millis() as u32 * attack.per_second / 1000;
                while sent < due {
                    for frame in (attack.frames)(sent) {
                        let _ = link.send(&frame);
                    }
                    sent += 1;
                }
                thread::sleep(Duration::from_millis(5));
            }
        });
        // Until the queues are as full as they get.
        thread::sleep(Duration::from_millis(700));
        let start = |method| {
            let connects = move || connects(&pair.client, method);
            let clients = (0..CLIENTS).map(|_| scope.spawn(connects));
            clients.collect::<Vec<_>>()
        };
        let [plain, fast_open] = [Method::Plain, Method::SendTo].map(start).map(|clients| {
            let ends = clients.into_iter().map(ScopedJoinHandle::join);
            ends.filter(|end| *end.as_ref().expect("no panic")).count()
        });
        let connected = Connected { plain, fast_open };
        ended.store(true, Ordering::Relaxed);
        Ok(connected)
    })
}

fn pair() -> Result<Pair> {
    let pair = Pair::new()?;
    pair.server.set_sysctl(keys::SYSCTL, keys::COUNTING)?;
    let spares = (0..200).map(|number| Family::V4.spare(number));
    pair.set_neighbours(spares.chain([bot()]), NOBODYS_MAC)?;
    Ok(pair)
}

/// Gives the client a valid cookie.
fn give_cookie(pair: &Pair) -> Result<()> {
    let any = SocketAddr::new(Family::V6.unspecified(), PORT);
    let listener = Listener::fast_open(&pair.server, any)?;
    tfo_testbed::testbed::request_cookie(pair, &listener, Family::V4)
}

fn compare(guard: &[&str]) -> Result<()> {
    for attack in &ATTACKS {
        let bare = pair()?;
        give_cookie(&bare)?;
        let kernel = connected(&bare, attack).context(attack.name)?;
        let testbed = Testbed::attach(pair()?, &["--mode", "generic"])?;
        give_cookie(&testbed.pair)?;
        testbed.tfo.done(&[&["guard", "set"], guard].concat())?;
        let guarded = connected(&testbed.pair, attack).context(attack.name)?;
        println!(
            "{}: kernel {kernel:?}, guard {guard:?} {guarded:?}",
            attack.name
        );
        ensure!(
            guarded.plain >= kernel.plain && guarded.fast_open >= kernel.fast_open,
            "{}: {guarded:?}, with the bare kernel {kernel:?}; {}",
            attack.name,
            testbed.tfo.done(&["stats"])?
        );
    }
    Ok(())
}

#[test]
fn no_attack_costs_more_clients_with_the_guard_on() -> Result<()> {
    compare(&["on"])
}

#[test]
fn no_attack_costs_more_clients_with_an_automatic_guard() -> Result<()> {
    compare(&["auto"])
}

/// Forty clients at a listener that accepts slowly: all of them are served.
#[test]
fn a_full_accept_queue_resets_nobody() -> Result<()> {
    const MANY: usize = 40;
    for guard in ["on", "auto"] {
        let testbed = Testbed::attach(pair()?, &["--mode", "generic"])?;
        testbed.tfo.done(&["guard", "set", guard])?;
        let settings = Settings {
            backlog: 4,
            ..Settings::FAST_OPEN
        };
        let any = SocketAddr::new(Family::V6.unspecified(), PORT);
        let listener = Listener::with(&testbed.pair.server, any, &settings)?;
        let to = SocketAddr::new(Family::V4.server(), PORT);
        let count = thread::scope(|scope| {
            let clients: Vec<_> = (0..MANY)
                .map(|_| {
                    scope.spawn(|| -> Result<()> {
                        let netns = &testbed.pair.client;
                        let client = Connection::open(netns, to, Method::Plain, b"hello")?;
                        ensure!(client.receive()? == b"hello");
                        Ok(())
                    })
                })
                .collect();
            for _ in 0..MANY {
                thread::sleep(Duration::from_millis(20));
                let Ok(connection) = listener.accept() else {
                    break;
                };
                let Ok(request) = connection.receive() else {
                    continue;
                };
                let _ = connection.send(&request);
            }
            let ends = clients
                .into_iter()
                .map(|client| client.join().expect("no panic"));
            ends.flatten().count()
        });
        let stats = testbed.tfo.done(&["stats"])?;
        ensure!(count == MANY, "{guard}: {count} of {MANY}\n{stats}");
    }
    Ok(())
}

/// The answer goes where the kernel's own would, not to whoever claims an address.
#[test]
fn an_answer_goes_by_the_route() -> Result<()> {
    const GATEWAY: [u8; 6] = [2, 0, 0, 0, 0, 0x77];
    let testbed = Testbed::attach(pair()?, &["--mode", "generic"])?;
    let server = &testbed.pair.server;
    testbed
        .pair
        .set_neighbour("10.77.0.250".parse()?, GATEWAY)?;
    server.configure(&["route add default via 10.77.0.250"])?;
    let any = SocketAddr::new(Family::V6.unspecified(), PORT);
    let _listener = Listener::fast_open(server, any)?;
    testbed.tfo.done(&["guard", "set", "on"])?;
    let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::All)?;
    for (source, to) in [("198.51.100.7", GATEWAY), (BOT, NOBODYS_MAC)] {
        let request = syn(source.parse()?, 40_000).options(&linux_options(&fast_open(b"")));
        link.send(&request.frame())?;
        let answer = tfo_testbed::poll::wait_for("the answer", Duration::from_secs(20), || {
            let frame = link.receive(Duration::from_millis(50))?;
            let port = PORT.to_be_bytes();
            Ok(frame.filter(|frame| frame.get(34..36) == Some(&port)))
        })?;
        ensure!(answer[..6] == to, "{source}: {:02x?}", &answer[..6]);
    }
    let stats = testbed.tfo.stats()?;
    ensure!(stats.counters["GuardChallenged"] == 2, "{stats:?}");
    // No neighbour is known: the kernel answers, once it has asked for one.
    server.ip(&["neigh", "del", BOT, "dev", SERVER_INTERFACE])?;
    link.send(&syn(bot(), 40_001).options(&linux_options(b"")).frame())?;
    testbed.pair.barrier()?;
    let stats = testbed.tfo.stats()?;
    ensure!(stats.counters["GuardUnanswered"] == 1, "{stats:?}");
    Ok(())
}
