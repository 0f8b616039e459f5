//! Conditions that switch the guard on and off. The data path decides alone: no controller runs unless a test starts
//! one.

use std::{
    net::SocketAddr,
    sync::atomic::{AtomicBool, AtomicU64, Ordering},
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
    poll::eventually,
    seed::rng,
    socket::{Listener, Method, Settings},
    testbed::Testbed,
    tfo::LIMIT,
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE, server_port},
    xdp::{self, Mode},
};

use super::testbed::{Ends, GuardTestbed, in_each_mode};

/// Rate of a port's SYNs that switches the guard on, and the quiet time that switches it off.
const ABOVE: [&str; 4] = ["--above", "1000/s burst 200", "--quiet", "2s"];
const QUIET: Duration = Duration::from_secs(2);
/// Time limit of every wait.
const PATIENCE: Duration = Duration::from_secs(30);

/// SYNs from many sources that do not exist.
struct Flood {
    link: LinkSocket,
    frames: Vec<Vec<u8>>,
    sent: usize,
}

impl Flood {
    fn new(pair: &Pair, family: Family, port: u16) -> Result<Self> {
        let mut random = rng()?;
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

    /// Sends until the guard is on. Returns the time that it took.
    fn until_on(&mut self, testbed: &GuardTestbed, port: u16) -> Result<Duration> {
        eventually("the port is guarded", PATIENCE, || {
            self.send(50)?;
            Ok(testbed.state(port)?.on)
        })
    }
}

/// Waits until the guard is off. Returns the time that it took.
fn until_off(testbed: &GuardTestbed, port: u16) -> Result<Duration> {
    let is_off = || Ok(!testbed.state(port)?.on);
    eventually("the port is not guarded", QUIET + PATIENCE, is_off)
}

fn a_flood_switches_it_on_and_quiet_switches_it_off(mode: Mode) -> Result<()> {
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(mode)?;
        let listener = testbed.base.listen(family)?;
        let port = listener.port();
        testbed.guard(port, "auto", &ABOVE)?;
        let mut reader = testbed.base.tfo.start(&["events", "--json"])?;
        let pair = &testbed.base.pair;
        let connect = || Ends::connect(pair, &listener, family, Method::Plain).map(drop);
        for round in 1..=2 {
            connect().context("before the flood")?;
            ensure!(!testbed.state(port)?.on, "guarded before the flood");
            let accepted = testbed.counters()?.get(GuardAccepted);

            let mut flood = Flood::new(pair, family, port)?;
            // The quiet time starts after this.
            let start = Instant::now();
            let took = flood.until_on(&testbed, port)?;
            println!("{family}: guarded after {took:?}");
            let challenged = testbed.counters()?.get(GuardChallenged);
            eventually("a thousand SYNs are challenged", PATIENCE, || {
                flood.send(50)?;
                Ok(testbed.counters()?.get(GuardChallenged) >= challenged + 1000)
            })?;
            connect().context("in the flood")?;
            let counters = testbed.counters()?;
            let counted = [GuardAccepted, GuardSwitchedOn].map(|counter| counters.get(counter));
            ensure!(counted == [accepted + 1, round], "{counters:?}");
            let state = testbed.state(port)?;
            ensure!(state.switches == round, "{state:?}");

            until_off(&testbed, port)?;
            let took = start.elapsed();
            println!("{family}: not guarded any more after {took:?}");
            ensure!(took >= QUIET, "{took:?}");
            eventually("the reader tells that it is not guarded", PATIENCE, || {
                ensure!(reader.is_running()?, "tfo ended: {:?}", reader.written());
                let [text, _] = reader.written();
                // The last line may be incomplete.
                let whole = text.rfind('\n').map_or("", |end| &text[..end]);
                Ok(told(whole, port)?.len() as u64 == 2 * round)
            })?;
        }
        let told = told(&reader.terminate(LIMIT)?.stdout, port)?;
        ensure!(told == [true, false, true, false], "{told:?}");
    }
    Ok(())
}

/// The guard's transitions at the port, by `tfo events`: `true` for on.
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

/// Below the rate the guard stays off; once on, it stays on for the quiet time.
fn it_does_not_go_on_and_off_at_the_edge(mode: Mode) -> Result<()> {
    const SYNS: usize = 400;
    let pair = Pair::new()?;
    // A backlog so large that the SYNs do not fill half of it.
    pair.server.set_sysctl("net.core.somaxconn", "65535")?;
    let settings = Settings {
        backlog: 65_535,
        ..Settings::FAST_OPEN
    };
    let address = SocketAddr::new(Family::V4.unspecified(), 0);
    let listener = Listener::with(&pair.server, address, &settings)?;
    let port = listener.port();
    let testbed = GuardTestbed::on(pair, mode)?;
    let mut flood = Flood::new(&testbed.base.pair, Family::V4, port)?;
    let guard = |above| testbed.guard(port, "auto", &["--above", above, "--quiet", "10m"]);
    // A rate above that of any machine.
    guard("1000000/s burst 1000000")?;
    flood.send(SYNS)?;
    testbed.base.pair.barrier()?;
    let state = testbed.state(port)?;
    ensure!(
        !state.on && state.switches == 0,
        "below its rate: {state:?}"
    );
    guard("1/s burst 10")?;
    flood.until_on(&testbed, port)?;
    for _ in 0..5 {
        flood.send(1)?;
        testbed.base.pair.barrier()?;
        let state = testbed.state(port)?;
        ensure!(
            state.on && state.switches == 1,
            "before it was quiet: {state:?}"
        );
    }
    Ok(())
}

/// Handshakes that never complete fill the queue at a low rate: its listener alone is guarded, and no rule is switched.
fn a_syn_queue_half_full_is_guarded(mode: Mode) -> Result<()> {
    const BACKLOG: u32 = 16;
    for family in Family::BOTH {
        let testbed = GuardTestbed::new(mode)?;
        let settings = Settings {
            backlog: BACKLOG,
            ..Settings::FAST_OPEN
        };
        let address = SocketAddr::new(family.unspecified(), 0);
        let listener = Listener::with(&testbed.base.pair.server, address, &settings)?;
        let port = listener.port();
        testbed.guard(port, "auto", &["--above", "100000/s"])?;
        let mut flood = Flood::new(&testbed.base.pair, family, port)?;
        let pair = &testbed.base.pair;
        flood.send(BACKLOG as usize / 2)?;
        pair.barrier()?;
        let challenged = || anyhow::Ok(testbed.counters()?.get(GuardChallenged));
        ensure!(challenged()? == 0, "guarded with a queue half full");
        eventually("the listener is guarded", PATIENCE, || {
            flood.send(1)?;
            pair.barrier()?;
            Ok(challenged()? > 0)
        })?;
        let state = testbed.state(port)?;
        ensure!(!state.on && state.switches == 0, "{state:?}");
        Ends::connect(pair, &listener, family, Method::Plain)?;
        let accepted = testbed.counters()?.get(GuardAccepted);
        ensure!(accepted == 1, "{accepted}");
    }
    Ok(())
}

/// Connects repeatedly while `work` runs: every connection must succeed, and every SYN must be counted. `work` gets a
/// function that waits until each client has connected a few more times.
fn under_load(
    testbed: &GuardTestbed,
    work: impl FnOnce(&dyn Fn() -> Result<()>) -> Result<()>,
) -> Result<()> {
    const VISITS: u64 = 5;
    let [v4, v6] = Family::BOTH.map(|family| Ok((family, testbed.base.listen(family)?)));
    let listeners: [Result<_>; 2] = [v4, v6];
    let listeners = listeners.into_iter().collect::<Result<Vec<_>>>()?;
    let pair = &testbed.base.pair;
    let before = (TcpExt::read(&pair.client)?, testbed.counters()?);
    let working = AtomicBool::new(true);
    let visits = [AtomicU64::new(0), AtomicU64::new(0)];
    let counts = || {
        visits
            .each_ref()
            .map(|visits| visits.load(Ordering::Relaxed))
    };
    thread::scope(|scope| -> Result<()> {
        let clients: Vec<_> = listeners
            .iter()
            .zip(&visits)
            .map(|((family, listener), visits)| {
                let working = &working;
                scope.spawn(move || -> Result<()> {
                    while working.load(Ordering::Relaxed) {
                        let ends = Ends::connect(pair, listener, *family, Method::Plain);
                        ends.with_context(|| format!("{family}: connection {visits:?}"))?;
                        visits.fetch_add(1, Ordering::Relaxed);
                    }
                    Ok(())
                })
            })
            .collect();
        let wait = || {
            let before = counts();
            eventually("each client connects again", PATIENCE, || {
                let ended = clients.iter().any(ScopedJoinHandle::is_finished);
                ensure!(!ended, "a client ended");
                let mut both = counts().into_iter().zip(before);
                Ok(both.all(|(now, before)| now >= before + VISITS))
            })
            .map(drop)
        };
        let done = work(&wait);
        working.store(false, Ordering::Relaxed);
        let mut joined = clients.into_iter().map(ScopedJoinHandle::join);
        let ends = joined.try_for_each(|end| end.expect("no panic"));
        ends.and(done)
    })?;
    let connections: u64 = counts().iter().sum();
    let sent_again = TcpExt::read(&pair.client)?
        .since(&before.0)
        .get("TCPSynRetrans");
    let seen = testbed.counters()?.get(Syns) - before.1.get(Syns);
    println!("{connections} connections, {sent_again} SYNs sent again");
    ensure!(
        seen == connections + sent_again,
        "{seen} SYNs seen of {connections} connections and {sent_again} sent again"
    );
    Ok(())
}

/// Clients that connect during a switch or an upgrade are not affected.
fn changes_cost_no_connection(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let tfo = &testbed.base.tfo;
    under_load(&testbed, |wait| {
        for _ in 0..2 {
            tfo.done(&["guard", "set", "on", "--replies", "unlimited"])?;
            wait()?;
            tfo.done(&["guard", "clear"])?;
            wait()?;
        }
        Ok(())
    })?;
    let counters = testbed.counters()?;
    let [challenged, accepted] = [GuardChallenged, GuardAccepted].map(|c| counters.get(c));
    ensure!(accepted > 0 && challenged >= accepted, "{counters:?}");
    Ok(())
}

fn an_upgrade_keeps_it(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let tfo = &testbed.base.tfo;
    tfo.done(&["guard", "set", "on", "--replies", "unlimited"])?;
    let before = testbed.state(0)?;
    under_load(&testbed, |wait| {
        for bits in ["24", "32", "24"] {
            wait()?;
            let attach = ["attach", "--replace", SERVER_INTERFACE];
            let said = tfo.done(&[&attach[..], &["--source-prefix-v4", bits]].concat())?;
            ensure!(said.contains("upgraded in place"), "{said}");
        }
        Ok(())
    })?;
    let after = testbed.state(0)?;
    ensure!(after.on && after.switches == before.switches, "{after:?}");
    // The guard still works.
    let listener = testbed.base.listen(Family::V4)?;
    let accepted = testbed.counters()?.get(GuardAccepted);
    Ends::connect(&testbed.base.pair, &listener, Family::V4, Method::Plain)?;
    ensure!(testbed.counters()?.get(GuardAccepted) == accepted + 1);
    Ok(())
}

fn nothing_stays_of_it(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let Testbed { tfo, pair, .. } = &testbed.base;
    let query = || SchedClassifier::query_tcx(SERVER_INTERFACE, TcAttachType::Ingress);
    let programs = || Ok::<_, anyhow::Error>(pair.server.run(query)?.1.len());
    let entry = usize::from(testbed.mode == Mode::Tc);
    ensure!(programs()? == entry);
    tfo.done(&["guard", "set", "on"])?;
    ensure!(programs()? == entry + 1);
    tfo.done(&["guard", "clear"])?;
    ensure!(programs()? == entry);
    xdp::ensure_pinned(&pair.server, true)?;
    tfo.done(&["guard", "set", "auto"])?;
    ensure!(programs()? == entry + 1);
    tfo.done(&["detach", "--all"])?;
    ensure!(programs()? == 0);
    xdp::ensure_pinned(&pair.server, false)?;
    xdp::ensure_detached(&pair.server, SERVER_INTERFACE)?;
    Ok(())
}

in_each_mode! {
    a_flood_switches_it_on_and_quiet_switches_it_off;
    it_does_not_go_on_and_off_at_the_edge;
    a_syn_queue_half_full_is_guarded;
    changes_cost_no_connection;
    an_upgrade_keeps_it;
    nothing_stays_of_it;
}
