//! The steps, each told in one line.

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

/// How long a frame takes from one host to the other.
const ONE_WAY: Duration = Duration::from_millis(20);

/// What a connection is to show.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Expected {
    /// The request comes after the handshake.
    AfterHandshake,
    /// The request comes in the SYN.
    InSyn,
}

/// Plays all steps. Gives the server, still attached, and how long the connections took.
pub(crate) fn play() -> Result<(Testbed, Times)> {
    let mut times = Times::default();
    line(&format!(
        "A client and a server in namespaces of their own, {} ms apart, and the time from connecting to the reply:",
        ONE_WAY.as_millis()
    ))?;
    let testbed = Testbed::idle(Pair::delayed(ONE_WAY)?)?;
    signals::check()?;

    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    let server = &testbed.pair.server;
    let (mode, id) =
        xdp::attached(server, SERVER_INTERFACE)?.context("attached, but nothing is there")?;
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
        "a new key makes the cookies; those of the old one stay valid",
    )?;
    connect(SendTo, InSyn, "the old key's cookie is taken, and replaced")?;
    connect(SendTo, InSyn, "the new key's cookie is taken")?;

    let file = KeyFile::new(keys::COUNTING)?;
    testbed.tfo.done(&["keys", "set", "--file", file.path()])?;
    say(
        "tfo keys set",
        "a wholly new key; no cookie so far is valid",
    )?;
    connect(
        SendTo,
        AfterHandshake,
        "the cookie is refused, and replaced; the request follows the handshake",
    )?;
    connect(
        SendTo,
        InSyn,
        "recovered: the cookie that came back is taken",
    )?;
    Ok((testbed, times))
}

/// One connection, which has to go as expected.
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

/// A time to show.
pub(crate) fn milliseconds(time: Duration) -> f64 {
    time.as_secs_f64() * 1e3
}
