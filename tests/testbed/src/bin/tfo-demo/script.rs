//! Steps of the demo; each prints one line.

use std::time::Duration;

use anyhow::{Context as _, Result, ensure};
use tfo_testbed::{
    keys::{self, KeyFile},
    socket::{Listener, Method},
    testbed::{Exchange, Testbed},
    veth::{Family, Pair, SERVER_INTERFACE},
    xdp,
};

use crate::{
    report::{Times, line},
    signals,
};
use Expected::{AfterHandshake, InSyn};
use Method::{Plain, SendTo};

/// One-way delay between the hosts.
const ONE_WAY: Duration = Duration::from_millis(20);

/// Expected course of a connection.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The request follows the handshake.
    AfterHandshake,
    /// The request is in the SYN.
    InSyn,
}

/// Runs all steps. Returns the testbed, still attached, and the connections' times.
pub(crate) fn play() -> Result<(Testbed, Times)> {
    let mut times = Times::default();
    line(&format!(
        "A client and a server in separate namespaces, {} ms apart; times are from connect to reply:",
        ONE_WAY.as_millis()
    ))?;
    let testbed = Testbed::idle(Pair::delayed(ONE_WAY)?)?;
    signals::check()?;

    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    let server = &testbed.pair.server;
    let (mode, id) =
        xdp::attached(server, SERVER_INTERFACE)?.context("no XDP program after tfo attach")?;
    say(
        "tfo attach",
        &format!("program {id} on the server's {SERVER_INTERFACE}, {mode} XDP"),
    )?;

    let listener = testbed.listen(Family::V6)?;
    let mut connect = |method, expected, what: &str| -> Result<()> {
        let mut took = Vec::new();
        for family in Family::BOTH {
            signals::check()?;
            let exchange = connection(&testbed, &listener, family, method, expected)?;
            times.add(&exchange);
            took.push(format!("{family} {:.0} ms", milliseconds(exchange.took)));
        }
        say(&took.join(", "), what)
    };

    connect(Plain, AfterHandshake, "no Fast Open")?;
    connect(SendTo, AfterHandshake, "the client asks for a cookie")?;
    connect(SendTo, InSyn, "the request is in the SYN, with the cookie")?;

    testbed.tfo.done(&["keys", "rotate"])?;
    say(
        "tfo keys rotate",
        "new cookies come from a new key; cookies of the old key stay valid",
    )?;
    connect(
        SendTo,
        InSyn,
        "the old key's cookie is accepted, and replaced",
    )?;
    connect(SendTo, InSyn, "the new key's cookie is accepted")?;

    let file = KeyFile::new(keys::COUNTING)?;
    testbed.tfo.done(&["keys", "set", "--file", file.path()])?;
    say(
        "tfo keys set",
        "an unrelated key; no earlier cookie is valid",
    )?;
    connect(
        SendTo,
        AfterHandshake,
        "the cookie is refused, and replaced; the request follows the handshake",
    )?;
    connect(SendTo, InSyn, "recovered: the replaced cookie is accepted")?;
    Ok((testbed, times))
}

/// Opens one connection. Any course but the `expected` one is an error.
fn connection(
    testbed: &Testbed,
    listener: &Listener,
    family: Family,
    method: Method,
    expected: Expected,
) -> Result<Exchange> {
    let exchange = testbed.exchange(listener, family, method)?;
    ensure!(
        exchange.in_syn == (expected == InSyn),
        "{family}: not as expected: {exchange:?}"
    );
    Ok(exchange)
}

fn say(who: &str, what: &str) -> Result<()> {
    line(&format!("  {who:<22}  {what}"))
}

pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
