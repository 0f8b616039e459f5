//! Every attack by what is configured, by hook and by address family: with `tfo`, no fewer honest clients connect than with
//! the bare kernel.

use std::{
    fmt,
    net::SocketAddr,
    sync::atomic::{AtomicBool, Ordering},
    thread::{self, ScopedJoinHandle},
    time::Duration,
};

use anyhow::{Context as _, Result, bail};
use tfo_testbed::{
    link::{Frames, LinkSocket},
    netns::Netns,
    socket::{Connection, Listener, Method, Settings},
    testbed::{self, Testbed},
    veth::{CLIENT_INTERFACE, Family, Pair},
    xdp::{Mode, Other},
};

use super::attacks::{ATTACKS, Attack, PORT, pair};

/// Clients of each kind.
const CLIENTS: usize = 6;
/// Runs of a cell in which fewer connect than with the bare kernel, for it to fail: one may be the machine's doing.
const TRIES: usize = 3;

const OBSERVING: &[&str] = &["status"];
const POLICY: &[&str] = &[
    "policy",
    "set",
    "--bad",
    "reissue",
    "--request-per-source",
    "100/s",
];
const GUARD_ON: &[&str] = &["guard", "set", "on"];
const GUARD_AUTO: &[&str] = &["guard", "set", "auto"];

/// The numbers of clients that connected: plain ones, and ones with a valid cookie.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Connected {
    plain: usize,
    fast_open: usize,
}

impl Connected {
    const ALL: Self = Self {
        plain: CLIENTS,
        fast_open: CLIENTS,
    };
}

impl fmt::Display for Connected {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{CLIENTS} {}/{CLIENTS}", self.plain, self.fast_open)
    }
}

/// Runs each attack with `rules`: by every hook and address family with `TFO_HARM=all`, else by one of each, which change
/// from one attack to the next and begin with the number `first` of their six pairs.
fn check(rules: &[&str], first: usize) -> Result<()> {
    let all = std::env::var("TFO_HARM").is_ok_and(|value| value == "all");
    for (number, attack) in (first..).zip(&ATTACKS) {
        for (family_number, family) in Family::BOTH.into_iter().enumerate() {
            for (mode_number, mode) in Mode::ALL.into_iter().enumerate() {
                if all || (number % 2 == family_number && number % 3 == mode_number) {
                    check_cell(attack, family, mode, rules)
                        .with_context(|| format!("{}, {family}, {mode}", attack.name))?;
                }
            }
        }
    }
    Ok(())
}

/// The bare kernel is asked where not all clients connect.
fn check_cell(attack: &Attack, family: Family, mode: Mode, rules: &[&str]) -> Result<()> {
    let mut seen = String::new();
    for _ in 0..TRIES {
        let (connected, stats) = with_tfo(attack, family, mode, rules)?;
        println!("{}, {family}, {mode}, {rules:?}: {connected}", attack.name);
        if connected == Connected::ALL {
            return Ok(());
        }
        let kernel = of_kernel(attack, family)?;
        println!("{}, {family}: the kernel {kernel}", attack.name);
        if connected.plain >= kernel.plain && connected.fast_open >= kernel.fast_open {
            return Ok(());
        }
        seen = format!("{connected}, with the bare kernel {kernel}; {stats}");
    }
    bail!(seen);
}

fn of_kernel(attack: &Attack, family: Family) -> Result<Connected> {
    let pair = pair()?;
    give_cookie(&pair, family)?;
    connected(&pair, attack, family)
}

/// Gives the statistics, too.
fn with_tfo(
    attack: &Attack,
    family: Family,
    mode: Mode,
    rules: &[&str],
) -> Result<(Connected, String)> {
    let testbed = Testbed::attach(pair()?, &["--mode", &mode.to_string()])?;
    // A veth interface takes frames of XDP_TX where it has a program itself.
    let _client = (mode == Mode::Native)
        .then(|| Other::attach(&testbed.pair.client, CLIENT_INTERFACE))
        .transpose()?;
    give_cookie(&testbed.pair, family)?;
    testbed.tfo.done(rules)?;
    let connected = connected(&testbed.pair, attack, family)?;
    Ok((connected, testbed.tfo.done(&["stats"])?))
}

/// Gives the client a valid cookie.
fn give_cookie(pair: &Pair, family: Family) -> Result<()> {
    let any = SocketAddr::new(Family::V6.unspecified(), PORT);
    let listener = Listener::fast_open(&pair.server, any)?;
    testbed::request_cookie(pair, &listener, family)
}

/// Sends the attack while clients connect.
fn connected(pair: &Pair, attack: &Attack, family: Family) -> Result<Connected> {
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
        scope.spawn(|| attack.send(family, &link, &ended));
        // Until the queues are as full as they get.
        thread::sleep(Duration::from_millis(700));
        let start = |method| {
            let connects = move || connects(&pair.client, family, method);
            let clients = (0..CLIENTS).map(|_| scope.spawn(connects));
            clients.collect::<Vec<_>>()
        };
        let [plain, fast_open] = [Method::Plain, Method::SendTo].map(start).map(|clients| {
            let ends = clients.into_iter().map(ScopedJoinHandle::join);
            ends.filter(|end| *end.as_ref().expect("no panic")).count()
        });
        ended.store(true, Ordering::Relaxed);
        // Wakes the server.
        connects(&pair.server, family, Method::Plain);
        Ok(Connected { plain, fast_open })
    })
}

/// A server that answers every request.
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

fn connects(client: &Netns, family: Family, method: Method) -> bool {
    let server = SocketAddr::new(family.server(), PORT);
    let connection = Connection::open(client, server, method, b"hello");
    connection
        .inspect_err(|error| println!("{error:#}"))
        .is_ok()
}

#[test]
fn no_attack_costs_more_clients_while_it_observes() -> Result<()> {
    check(OBSERVING, 0)
}

#[test]
fn no_attack_costs_more_clients_with_a_policy() -> Result<()> {
    check(POLICY, 1)
}

#[test]
fn no_attack_costs_more_clients_with_the_guard_on() -> Result<()> {
    check(GUARD_ON, 2)
}

#[test]
fn no_attack_costs_more_clients_with_an_automatic_guard() -> Result<()> {
    check(GUARD_AUTO, 4)
}
