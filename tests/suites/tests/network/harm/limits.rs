//! Limits and the automatic guard, turned against honest clients by what others send.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread,
};

use anyhow::{Result, ensure};
use tfo_testbed::{
    kernel::TcpExt,
    link::{Frames, LinkSocket},
    packet::{Segment, fast_open, linux_options},
    socket::{Connection, Listener, Method, Settings},
    testbed::Testbed,
    veth::{CLIENT_INTERFACE, Family},
};

use super::attacks::{Attack, PORT, frame, pair, port, spoofed, syn};

const REQUEST: &[u8] = b"hello";
/// Visits of an honest client, and how many of them a stall of the machine may spoil.
const VISITS: u8 = 10;
const SPOILT: u8 = 3;

fn any(port: u16) -> SocketAddr {
    SocketAddr::new(Family::V6.unspecified(), port)
}

/// SYNs with a cookie that is nobody's.
const BAD: Attack = Attack {
    name: "bad cookies",
    per_second: 500,
    frames: |family, n| {
        let options = linux_options(&fast_open(&[7; 8]));
        let bad = syn(spoofed(family, n), port(n)).options(&options);
        frame(&bad.data(b"take this"))
    },
};
/// SYNs with data and no Fast Open option.
const DATA: Attack = Attack {
    name: "data without a cookie",
    per_second: 500,
    frames: |family, n| {
        let plain = syn(spoofed(family, n), port(n)).options(&linux_options(b""));
        frame(&plain.data(b"1"))
    },
};

/// Sends the attack until `work` is done.
fn beside<T>(testbed: &Testbed, attack: &Attack, work: impl FnOnce() -> Result<T>) -> Result<T> {
    let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::None)?;
    let ended = AtomicBool::new(false);
    thread::scope(|scope| {
        scope.spawn(|| attack.send(Family::V4, &link, &ended));
        let result = work();
        ended.store(true, Ordering::Relaxed);
        result
    })
}

/// Gives whether the request was taken in the SYN.
fn visit(testbed: &Testbed, listener: &Listener) -> Result<bool> {
    let to = SocketAddr::new(Family::V4.server(), listener.port());
    let client = Connection::open(&testbed.pair.client, to, Method::SendTo, REQUEST)?;
    // Others' data may be taken before it.
    loop {
        let accepted = listener.accept()?;
        if accepted.receive().is_ok_and(|request| request == REQUEST) {
            return Ok(client.info()?.syn_data_taken);
        }
    }
}

/// Clients with a stale cookie wait for no retransmission, whoever has used up the limit that all share.
#[test]
fn bad_cookies_of_others_delay_no_client_with_a_stale_one() -> Result<()> {
    let testbed = Testbed::attach(pair()?, &[])?;
    let listener = Listener::fast_open(&testbed.pair.server, any(PORT))?;
    let limit = ["--bad", "reissue", "--bad-per-port", "10/s"];
    testbed
        .tfo
        .done(&[&["policy", "set"], &limit[..]].concat())?;
    let before = TcpExt::read(&testbed.pair.client)?;
    beside(&testbed, &BAD, || {
        for _ in 0..VISITS {
            // Twice: the kernel and tfo take the cookies of the key before.
            testbed.tfo.done(&["keys", "rotate"])?;
            testbed.tfo.done(&["keys", "rotate"])?;
            visit(&testbed, &listener)?;
        }
        Ok(())
    })?;
    let again = TcpExt::read(&testbed.pair.client)?
        .since(&before)
        .get("TCPSynRetrans");
    let counters = testbed.tfo.stats()?.counters;
    ensure!(
        counters["PolicyBadPort"] > 0,
        "the limit was not reached: {counters:?}"
    );
    ensure!(
        again <= u64::from(SPOILT),
        "{again} SYNs were sent again: {counters:?}"
    );
    Ok(())
}

/// A limit of data counts only what would be taken.
#[test]
fn data_without_a_cookie_uses_up_no_limit_of_data() -> Result<()> {
    let testbed = Testbed::attach(pair()?, &[])?;
    let listener = Listener::fast_open(&testbed.pair.server, any(PORT))?;
    testbed.request_cookie(&listener, Family::V4)?;
    testbed
        .tfo
        .done(&["policy", "set", "--data-per-port", "100/s"])?;
    let taken = beside(&testbed, &DATA, || {
        let visits = (0..VISITS).map(|_| visit(&testbed, &listener));
        visits.collect::<Result<Vec<_>>>()
    })?;
    let spoilt = taken.iter().filter(|taken| !**taken).count();
    ensure!(spoilt <= usize::from(SPOILT), "in the SYN: {taken:?}");
    Ok(())
}

/// A listener whose queue is full guards no port but its own.
#[test]
fn the_pressure_on_one_listener_guards_no_other() -> Result<()> {
    const SMALL: u16 = 9001;
    let testbed = Testbed::attach(pair()?, &["--mode", "generic"])?;
    let server = &testbed.pair.server;
    let listener = Listener::fast_open(server, any(PORT))?;
    let settings = Settings {
        backlog: 1,
        ..Settings::FAST_OPEN
    };
    let _small = Listener::with(server, any(SMALL), &settings)?;
    testbed.tfo.done(&["guard", "set", "auto"])?;
    let link = LinkSocket::open(&testbed.pair.client, CLIENT_INTERFACE, Frames::None)?;
    for number in 0..100 {
        let source = SocketAddr::new(Family::V4.spare(number), 1024);
        let to = SocketAddr::new(Family::V4.server(), SMALL);
        let spoofed = Segment::syn(source, to).options(&linux_options(b""));
        link.send(&spoofed.frame())?;
    }
    testbed.pair.barrier()?;
    let before = testbed.tfo.stats()?.counters["GuardChallenged"];
    ensure!(before > 0, "the small listener is not guarded");
    for _ in 0..VISITS {
        visit(&testbed, &listener)?;
    }
    let after = testbed.tfo.stats()?.counters["GuardChallenged"];
    ensure!(after == before, "{before} challenges, then {after}");
    Ok(())
}

/// A proxy, or the clients behind a carrier's NAT: many connections from one address.
#[test]
fn a_busy_proxy_is_served_by_the_guard_as_by_the_kernel() -> Result<()> {
    const EACH: usize = 750;
    const THREADS: usize = 4;
    for guard in ["on", "auto"] {
        let testbed = Testbed::attach(pair()?, &["--mode", "generic"])?;
        let listener = Listener::fast_open(&testbed.pair.server, any(PORT))?;
        testbed.tfo.done(&["guard", "set", guard])?;
        let to = SocketAddr::new(Family::V4.server(), PORT);
        let failed: Vec<_> = thread::scope(|scope| {
            let open = || {
                let opens = (0..EACH)
                    .map(|_| Connection::open(&testbed.pair.client, to, Method::Plain, REQUEST));
                opens.filter_map(Result::err).collect::<Vec<_>>()
            };
            let clients: Vec<_> = (0..THREADS).map(|_| scope.spawn(open)).collect();
            for _ in 0..EACH * THREADS {
                if listener.accept().is_err() {
                    break;
                }
            }
            let ends = clients
                .into_iter()
                .map(|client| client.join().expect("no panic"));
            ends.flatten().collect()
        });
        let counters = testbed.tfo.stats()?.counters;
        ensure!(failed.is_empty(), "{guard}: {failed:?}; {counters:?}");
    }
    Ok(())
}
