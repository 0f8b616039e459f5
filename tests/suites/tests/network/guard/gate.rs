//! When a port is guarded. No `tfo` runs meanwhile but where a test says so: the data path decides by itself.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use aya::programs::{SchedClassifier, TcAttachType};
use serde_json::Value;
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    kernel::TcpExt,
    link::{Frames, LinkSocket},
    packet::{Segment, linux_options},
    poll::{eventually, patient},
    socket::{Listener, Method, Settings},
    testbed::Testbed,
    tfo::LIMIT,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE, server_port},
    xdp::{self, Mode},
};

use super::testbed::{Ends, GuardTestbed};

/// What a port may take, and how long it is guarded after it took more.
const ABOVE: [&str; 4] = ["--above", "1000/s burst 200", "--quiet", "2s"];
const QUIET: Duration = Duration::from_secs(2);
/// How late anything may be.
const LATE: Duration = Duration::from_millis(500);

/// SYNs of many sources that nobody is at.
struct Flood {
    link: LinkSocket,
    frames: Vec<Vec<u8>>,
    sent: usize,
}

impl Flood {
    fn new(pair: &Pair, family: Family, port: u16) -> Result<Self> {
        let mut random = fastrand::Rng::new();
        let frames = (0..5000).map(|_| {
            let source = SocketAddr::new(family.spare(random.u8(..200)), random.u16(1024..));
            let syn = Segment::syn(source, server_port(family, port));
            let syn = syn.options(&linux_options(&[])).numbers(random.u32(..), 0);
            syn.frame().to_vec()
        });
        Ok(Self {
            link: LinkSocket::open(&pair.client, CLIENT_INTERFACE, Frames::None)?,
            frames: frames.collect(),
            sent: 0,
        })
    }

    fn send(&mut self, count: usize) -> Result<()> {
        for _ in 0..count {
            self.link
                .send(&self.frames[self.sent % self.frames.len()])?;
            self.sent += 1;
        }
        Ok(())
    }

    /// Sends `rate` a second.
    fn pace(&mut self, rate: usize, time: Duration) -> Result<()> {
        const STEPS: usize = 50;
        let start = Instant::now();
        let step = Duration::from_secs(1) / STEPS as u32;
        for number in 1.. {
            if start.elapsed() >= time {
                break;
            }
            self.send(rate / STEPS)?;
            thread::sleep((step * number).saturating_sub(start.elapsed()));
        }
        Ok(())
    }

    /// Sends until the port is guarded, and gives how long that took.
    fn until_on(&mut self, testbed: &GuardTestbed, port: u16) -> Result<Duration> {
        eventually("the port is guarded", patient(LATE), || {
            self.send(50)?;
            Ok(testbed.state(port)?.on)
        })
    }
}

/// How long it takes until the port is not guarded.
fn until_off(testbed: &GuardTestbed, port: u16) -> Result<Duration> {
    let is_off = || Ok(!testbed.state(port)?.on);
    eventually("the port is not guarded", QUIET + patient(LATE), is_off)
}

#[test]
fn a_flood_switches_it_on_and_quiet_switches_it_off() -> Result<()> {
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(Mode::Native)?;
        let listener = testbed.base.listen(family)?;
        let port = listener.port();
        testbed.guard(port, "auto", &ABOVE)?;
        let reader = testbed.base.tfo.start(&["events", "--json"])?;
        let pair = &testbed.base.pair;
        let connect = || Ends::connect(pair, &listener, family, Method::Plain).map(drop);
        for round in 1..=2 {
            connect().context("before the flood")?;
            ensure!(!testbed.state(port)?.on, "guarded before the flood");
            let accepted = testbed.counters()?.get(GuardAccepted);

            let mut flood = Flood::new(pair, family, port)?;
            let took = flood.until_on(&testbed, port)?;
            println!("{family}: guarded after {took:?}");
            ensure!(took < patient(Duration::from_millis(100)), "{took:?}");
            flood.send(1000)?;
            connect().context("in the flood")?;
            let counters = testbed.counters()?;
            ensure!(counters.get(GuardChallenged) > 1000, "{counters:?}");
            ensure!(counters.get(GuardAccepted) == accepted + 1);
            ensure!(counters.get(GuardSwitchedOn) == round);
            ensure!(testbed.state(port)?.switches == round);

            let took = until_off(&testbed, port)?;
            println!("{family}: not guarded any more {took:?} later");
            ensure!(took + LATE > QUIET, "{took:?}");
        }
        // The reader looks some times a second.
        thread::sleep(patient(Duration::from_millis(200)));
        let told = told(&reader.terminate(LIMIT)?.stdout, port)?;
        ensure!(told == [true, false, true, false], "{told:?}");
    }
    Ok(())
}

/// What `tfo events` said of the port: that it came to be guarded, or that it is not any more.
fn told(lines: &str, port: u16) -> Result<Vec<bool>> {
    let mut told = Vec::new();
    for line in lines.lines() {
        let event: Value = serde_json::from_str(line)?;
        if event["event"] == "guard" {
            ensure!(event["port"] == port && event["mode"] == "auto", "{event}");
            told.push(event["on"] == true);
        }
    }
    Ok(told)
}

/// Between half the rate and the whole it stays what it is.
#[test]
fn it_does_not_go_on_and_off_at_the_edge() -> Result<()> {
    const BETWEEN: usize = 750;
    let pair = Pair::new()?;
    // The SYNs alone are not to fill half of the queue.
    pair.server.set_sysctl("net.core.somaxconn", "65535")?;
    let settings = Settings {
        backlog: 65_535,
        ..Settings::FAST_OPEN
    };
    let address = SocketAddr::new(Family::V4.unspecified(), 0);
    let listener = Listener::with(&pair.server, address, &settings)?;
    let port = listener.port();
    let testbed = GuardTestbed::on(pair, Mode::Native)?;
    // A machine that stands still for a moment sends more afterwards.
    testbed.guard(
        port,
        "auto",
        &["--above", "1000/s burst 400", "--quiet", "2s"],
    )?;
    let mut flood = Flood::new(&testbed.base.pair, Family::V4, port)?;
    flood.until_on(&testbed, port)?;
    flood.pace(BETWEEN, 2 * QUIET)?;
    ensure!(testbed.state(port)?.on, "off, though it is not quiet");
    until_off(&testbed, port)?;
    flood.pace(BETWEEN, 2 * QUIET)?;
    let state = testbed.state(port)?;
    ensure!(!state.on && state.switches == 1, "{state:?}");
    Ok(())
}

/// Handshakes that do not end, slowly.
#[test]
fn a_syn_queue_half_full_switches_it_on() -> Result<()> {
    const BACKLOG: u32 = 16;
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(Mode::Generic)?;
        let settings = Settings {
            backlog: BACKLOG,
            ..Settings::FAST_OPEN
        };
        let address = SocketAddr::new(family.unspecified(), 0);
        let listener = Listener::with(&testbed.base.pair.server, address, &settings)?;
        let port = listener.port();
        testbed.guard(port, "auto", &["--above", "100000/s"])?;
        let mut flood = Flood::new(&testbed.base.pair, family, port)?;
        flood.send(BACKLOG as usize / 2)?;
        thread::sleep(Duration::from_millis(50));
        ensure!(!testbed.state(port)?.on, "guarded with a queue half full");
        for _ in 0..4 {
            flood.send(1)?;
            thread::sleep(Duration::from_millis(20));
        }
        let state = testbed.state(port)?;
        ensure!(state.on && state.switches == 1, "{state:?}");
        Ends::connect(&testbed.base.pair, &listener, family, Method::Plain)?;
        ensure!(testbed.counters()?.get(GuardAccepted) == 1);
    }
    Ok(())
}

/// Connects again and again while `work` is done: every connection has to come about, and no SYN be sent twice.
fn under_load(testbed: &GuardTestbed, work: impl FnOnce() -> Result<()>) -> Result<()> {
    let listeners =
        [Family::V4, Family::V6].map(|family| Ok((family, testbed.base.listen(family)?)));
    let listeners: [Result<_>; 2] = listeners;
    let listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
    let pair = &testbed.base.pair;
    let before = TcpExt::read(&pair.client)?;
    let working = AtomicBool::new(true);
    let connections = thread::scope(|scope| -> Result<u64> {
        let clients: Vec<_> = listeners
            .iter()
            .map(|(family, listener)| {
                let working = &working;
                scope.spawn(move || -> Result<u64> {
                    let mut connections = 0;
                    while working.load(Ordering::Relaxed) {
                        let ends = Ends::connect(pair, listener, *family, Method::Plain);
                        ends.with_context(|| format!("{family}: connection {connections}"))?;
                        connections += 1;
                    }
                    Ok(connections)
                })
            })
            .collect();
        let done = work();
        working.store(false, Ordering::Relaxed);
        let joined = clients.into_iter().map(ScopedJoinHandle::join);
        let sum = joined.map(|end| end.expect("no panic")).sum::<Result<_>>();
        done.and(sum)
    })?;
    let lost = TcpExt::read(&pair.client)?.since(&before);
    println!("{connections} connections");
    ensure!(connections > 20, "{connections} connections only");
    let again = ["TCPSynRetrans", "TCPTimeouts"].map(|name| lost.get(name));
    ensure!(again == [0, 0], "sent again: {lost:?}");
    Ok(())
}

/// On, off, upgraded: whoever connects meanwhile does not see it.
#[test]
fn changes_cost_no_connection() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Native)?;
    let tfo = &testbed.base.tfo;
    under_load(&testbed, || {
        for _ in 0..2 {
            tfo.done(&["guard", "set", "on", "--replies", "unlimited"])?;
            thread::sleep(Duration::from_millis(500));
            tfo.done(&["guard", "clear"])?;
            thread::sleep(Duration::from_millis(500));
        }
        Ok(())
    })?;
    let counters = testbed.counters()?;
    let [challenged, accepted] = [GuardChallenged, GuardAccepted].map(|c| counters.get(c));
    ensure!(accepted > 0 && challenged == accepted, "{counters:?}");
    Ok(())
}

#[test]
fn an_upgrade_keeps_it() -> Result<()> {
    let testbed = GuardTestbed::new(Mode::Native)?;
    let tfo = &testbed.base.tfo;
    tfo.done(&["guard", "set", "on", "--replies", "unlimited"])?;
    let before = testbed.state(0)?;
    under_load(&testbed, || {
        for bits in ["24", "32", "24"] {
            let attach = ["attach", "--replace", SERVER_INTERFACE];
            let said = tfo.done(&[&attach[..], &["--source-prefix-v4", bits]].concat())?;
            ensure!(said.contains("upgraded in place"), "{said}");
        }
        Ok(())
    })?;
    let after = testbed.state(0)?;
    ensure!(after.on && after.switches == before.switches, "{after:?}");
    // And it is at work still.
    let listener = testbed.base.listen(Family::V4)?;
    let accepted = testbed.counters()?.get(GuardAccepted);
    Ends::connect(&testbed.base.pair, &listener, Family::V4, Method::Plain)?;
    ensure!(testbed.counters()?.get(GuardAccepted) == accepted + 1);
    Ok(())
}

#[test]
fn nothing_stays_of_it() -> Result<()> {
    for mode in [Mode::Native, Mode::Generic] {
        let testbed = GuardTestbed::new(mode)?;
        let Testbed { tfo, pair, .. } = &testbed.base;
        let query = || SchedClassifier::query_tcx(SERVER_INTERFACE, TcAttachType::Ingress);
        let programs = || Ok::<_, anyhow::Error>(pair.server.run(query)?.1.len());
        ensure!(programs()? == 0);
        tfo.done(&["guard", "set", "on"])?;
        ensure!(programs()? == 1);
        tfo.done(&["guard", "clear"])?;
        ensure!(programs()? == 0 && xdp::is_pinned(&pair.server)?);
        tfo.done(&["guard", "set", "auto"])?;
        ensure!(programs()? == 1);
        tfo.done(&["detach", "--all"])?;
        ensure!(programs()? == 0 && !xdp::is_pinned(&pair.server)?);
        ensure!(xdp::attached(&pair.server, SERVER_INTERFACE)?.is_none());
    }
    Ok(())
}

#[test]
fn where_no_frame_can_be_answered_it_says_so() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &["--mode", "tc"])?;
    let refused = testbed.tfo.run(&["guard", "set", "on"])?;
    refused.ensure_refused(&[SERVER_INTERFACE, "traffic control", "--mode native"])?;
    ensure!(testbed.tfo.json(&["guard", "show"])?["in_force"] == false);
    Ok(())
}
