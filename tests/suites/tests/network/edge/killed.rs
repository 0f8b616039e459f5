//! An edge that dies in a flood, beside another one.

use std::{
    process::Command,
    sync::atomic::{AtomicBool, AtomicI64, Ordering},
    thread,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use tfo_common::counters::Counter::*;
use tfo_testbed::{
    keys::{self, KeyFile},
    link::{Frames, LinkSocket},
    packet::{Segment, linux_options},
    poll::eventually,
    process::Background,
    seed::rng,
    socket::{Connection, Method},
    tfo::{self, LIMIT},
    veth::Family,
};

use super::{
    farm::{Farm, Member, PORT, say, service},
    strangers::{frame, stranger},
    sum,
};

/// Frames of the flood, which are sent again and again.
const FLOOD: u32 = 2_000;
/// Time limit of what takes many steps; the machine may be busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// Connections of each kind of client between two faults.
const ENOUGH: i64 = 40;

/// An edge under the control of `tfo run`.
fn controlled(farm: &Farm, edge: &Member) -> Result<(Background, KeyFile)> {
    let rules = Family::BOTH.map(|family| {
        let vip = family.vip();
        format!("[[guard.edge]]\nvip = '{vip}'\nport = {PORT}\nmode = 'on'\n")
    });
    let secret = farm.secret.path();
    let config = format!(
        "interfaces = ['front']\nmode = 'tc'\n[keys]\nsource = 'kernel'\n[guard]\nsecret-file = '{secret}'\n{}",
        rules.concat()
    );
    let config = KeyFile::new(&config)?;
    let mut command = Command::new(tfo::binary());
    command.args(["run", "-c", config.path(), "--netns", edge.netns.name()]);
    let run = Background::start(&mut command)?;
    eventually("the edge challenges", PATIENCE, || {
        let shown = edge.tfo.json(&["guard", "show"])?;
        Ok(shown["ports"]
            .as_array()
            .is_some_and(|ports| ports.len() == 2))
    })?;
    Ok((run, config))
}

/// A client that connects again and again, and fails with the first connection that does.
struct Honest<'a> {
    farm: &'a Farm,
    ended: &'a AtomicBool,
    /// Connections without and with Fast Open.
    counts: [AtomicI64; 2],
}

impl Honest<'_> {
    fn run(&self, method: Method, count: &AtomicI64) -> Result<()> {
        while !self.ended.load(Ordering::Relaxed) {
            for family in Family::BOTH {
                let number = count.fetch_add(1, Ordering::Relaxed);
                self.farm
                    .ask(family, method)
                    .with_context(|| format!("{family}, {method:?}, connection {number}"))?;
            }
        }
        Ok(())
    }

    /// Waits until each kind of client has connected [`ENOUGH`] times more.
    fn go_on(&self) -> Result<()> {
        let now = || {
            self.counts
                .each_ref()
                .map(|count| count.load(Ordering::Relaxed))
        };
        let before = now();
        eventually("the clients go on", PATIENCE, || {
            let grown = now()
                .iter()
                .zip(before)
                .all(|(now, before)| now - before >= ENOUGH);
            Ok(grown || self.ended.load(Ordering::Relaxed))
        })
        .map(drop)
    }
}

/// Sends the flood by both edges until it is ended. Gives the number of frames by each.
fn flood(farm: &Farm, ended: &AtomicBool) -> Result<i64> {
    let link = LinkSocket::open(&farm.client.netns, "front", Frames::None)?;
    let mut random = rng()?;
    let mut frames = Vec::new();
    for number in 0..FLOOD {
        let client = stranger(random.u32(1..1 << 24));
        let syn = Segment::syn(client, service(Family::V4)).options(&linux_options(&[]));
        let edge = &farm.edges[number as usize % 2];
        frames.push(frame(&syn.numbers(random.u32(..), 0), edge)?);
    }
    let mut rounds = 0;
    while !ended.load(Ordering::Relaxed) {
        for frame in &frames {
            link.send(frame)?;
        }
        rounds += 1;
    }
    Ok(rounds * i64::from(FLOOD / 2))
}

/// First an edge loses its controller, then all of its links. In the flood honest clients open all of their connections, and
/// those that are open go on.
#[test]
fn clients_go_on_by_the_other_edge_in_a_flood() -> Result<()> {
    let farm = Farm::new(2, 2)?;
    farm.share_key(keys::COUNTING)?;
    farm.guard_hosts()?;
    let [first, second] = [0, 1].map(|number| &farm.edges[number]);
    let _first = controlled(&farm, first)?;
    let (controller, _config) = controlled(&farm, second)?;
    let ended = AtomicBool::new(false);
    let honest = Honest {
        farm: &farm,
        ended: &ended,
        counts: Default::default(),
    };
    farm.serving(|| {
        let sent = thread::scope(|scope| {
            let [plain, fast] = &honest.counts;
            let flood = scope.spawn(|| flood(&farm, &ended));
            let clients = [(Method::Plain, plain), (Method::SendTo, fast)];
            let clients = clients.map(|(method, count)| {
                let (honest, ended) = (&honest, &ended);
                let client = move || {
                    let done = honest.run(method, count);
                    // Nobody is to wait for a client that failed.
                    ended.fetch_or(done.is_err(), Ordering::Relaxed);
                    done
                };
                scope.spawn(client)
            });
            let done = kill_one(&farm, &honest, controller);
            ended.store(true, Ordering::Relaxed);
            for client in clients {
                client.join().expect("a client panicked")?;
            }
            let sent = flood.join().expect("the flood panicked")?;
            done.map(|()| sent)
        })?;
        let counts = honest
            .counts
            .each_ref()
            .map(|count| count.load(Ordering::Relaxed));
        println!("{sent} SYNs to each edge, {counts:?} connections");
        eventually("the edge saw the flood", LIMIT, || {
            // A busy host drops some of it before its programs see it.
            Ok(first.count(GuardReferred)? >= sent / 10)
        })?;
        // Nothing of the flood: each SYN that reached a host had a cookie.
        let (syns, proven) = (sum(&farm.hosts, Syns)?, sum(&farm.edges, GuardProven)?);
        ensure!(
            syns <= proven && proven <= counts[1],
            "{syns} SYNs, {proven} proven"
        );
        // Each client without a cookie was challenged.
        let accepted = sum(&farm.hosts, GuardAccepted)?;
        ensure!(accepted >= counts[0] + ENOUGH, "{accepted} of {counts:?}");
        Ok(())
    })
}

fn kill_one(farm: &Farm, honest: &Honest<'_>, controller: Background) -> Result<()> {
    let [first, second] = [0, 1].map(|number| &farm.edges[number]);
    honest.go_on()?;
    controller.signal(Signal::KILL)?;
    controller.wait(LIMIT)?;
    let before = second.count(GuardReferred)?;
    honest.go_on()?;
    ensure!(second.count(GuardReferred)? > before, "the edge stopped");

    let open = (0..ENOUGH).map(|_| farm.ask(Family::V6, Method::Plain));
    let open: Vec<(Connection, String)> = open.collect::<Result<_>>()?;
    let down = ["link set front down", "link set back down"];
    second.netns.configure(&down)?;
    farm.route(&[first])?;
    honest.go_on()?;
    for (connection, host) in &open {
        connection.send(b"and now?")?;
        let answer = say(connection)?;
        ensure!(answer == *host, "{answer}, not {host}");
    }
    Ok(())
}
