//! The guard's answers to clients of a busy listener, and to what comes from elsewhere.

use std::{net::SocketAddr, thread, time::Duration};

use anyhow::{Result, ensure};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    packet::{fast_open, linux_options},
    socket::{Connection, Listener, Method, Settings},
    testbed::Testbed,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, SERVER_INTERFACE},
};

use super::attacks::{PORT, bot, pair, syn};

/// Forty clients at a listener that accepts slowly: all of them are served.
#[test]
fn a_full_accept_queue_resets_nobody() -> Result<()> {
    const MANY: usize = 40;
    let mut full = 0;
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
        let counters = testbed.tfo.stats()?.counters;
        ensure!(count == MANY, "{guard}: {count} of {MANY}\n{counters:?}");
        full += counters["GuardQueueFull"];
    }
    ensure!(full > 0, "the accept queue was never full");
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
    let bot = bot(Family::V4);
    for (source, to) in [("198.51.100.7", GATEWAY), (&bot.to_string(), NOBODYS_MAC)] {
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
    server.ip(&["neigh", "del", &bot.to_string(), "dev", SERVER_INTERFACE])?;
    link.send(&syn(bot, 40_001).options(&linux_options(b"")).frame())?;
    testbed.pair.barrier()?;
    let stats = testbed.tfo.stats()?;
    ensure!(stats.counters["GuardUnanswered"] == 1, "{stats:?}");
    Ok(())
}
