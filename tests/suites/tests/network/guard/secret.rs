//! A secret that is replaced while clients are between the challenge and its answer.

use std::{process::Command, thread, time::Duration};

use anyhow::{Result, ensure};
use tfo_common::{counters::Counter::*, guard::GuardMode};
use tfo_testbed::{
    keys::KeyFile,
    poll::eventually,
    process::{self, Background},
    socket::Method,
    tfo::{self, LIMIT},
    veth::Family,
    xdp::Mode,
};

use super::{
    stranger::Stranger,
    testbed::{Ends, GuardTestbed, in_each_mode},
};

/// Seconds for which a test has the host wait for answers.
const DRAIN: &str = "10";

/// `tfo guard set` with this secret, which waits for `drain` seconds.
fn set(testbed: &GuardTestbed, port: u16, secret: &KeyFile, drain: &str) -> Command {
    let mut command = Command::new(tfo::binary());
    command.args(["guard", "set", "on", "--port", &port.to_string()]);
    command.args(["--secret-file", secret.path()]);
    command.args(["--netns", testbed.base.pair.server.name()]);
    command.env("TFO_TEST_GUARD_DRAIN", drain);
    command
}

fn secrets() -> Result<[KeyFile; 2]> {
    let [first, second] = ["5a", "6b"].map(|byte| KeyFile::new(&byte.repeat(32)));
    Ok([first?, second?])
}

/// From secrets of its own to one that other hosts have, and from that to another: who was challenged before is accepted,
/// who comes meanwhile meets the kernel, and who comes then is challenged again.
fn handshakes_in_flight_outlive_their_secret(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let listener = testbed.base.listen(Family::V4)?;
    let port = listener.port();
    let pair = &testbed.base.pair;
    testbed.guard(port, "on", &[])?;
    let mut stranger = Stranger::new(pair, Family::V4, 1, port)?;
    stranger.raw.patience = LIMIT;
    let accepted = || Ok::<_, anyhow::Error>(testbed.counters()?.get(GuardAccepted));
    for secret in &secrets()? {
        let challenge = stranger.knock()?;
        let mut command = set(&testbed, port, secret, DRAIN);
        let replaces = Background::start(&mut command)?;
        eventually("nobody is challenged", LIMIT, || {
            Ok(testbed.state(port)?.rule.mode == GuardMode::Off)
        })?;
        let before = accepted()?;
        stranger.prove(&challenge, b"late")?;
        ensure!(listener.accept()?.receive()? == b"late");
        ensure!(accepted()? == before + 1);
        Ends::connect(pair, &listener, Family::V4, Method::Plain)?;
        ensure!(accepted()? == before + 1, "not by the kernel");

        let output = replaces.wait(LIMIT)?;
        ensure!(output.status.success(), "{output:?}");
        ensure!(testbed.state(port)?.rule.mode == GuardMode::On);
        Ends::connect(pair, &listener, Family::V4, Method::Plain)?;
        ensure!(accepted()? == before + 2);
    }
    ensure!(testbed.counters()?.get(GuardWrongAcks) == 0);
    Ok(())
}

/// A client that connects again and again notices nothing.
fn connections_open_while_a_secret_is_replaced(mode: Mode) -> Result<()> {
    let testbed = GuardTestbed::new(mode)?;
    let listener = testbed.base.listen(Family::V6)?;
    let port = listener.port();
    let pair = &testbed.base.pair;
    testbed.guard(port, "on", &[])?;
    for secret in &secrets()? {
        let mut command = set(&testbed, port, secret, "5");
        thread::scope(|scope| {
            let replaces = scope.spawn(move || process::succeed(&mut command, LIMIT));
            let mut count = 0;
            while !replaces.is_finished() || count < 20 {
                Ends::connect(pair, &listener, Family::V6, Method::Plain)?;
                count += 1;
                thread::sleep(Duration::from_millis(1));
            }
            println!("{count} connections, none failed");
            replaces.join().expect("panicked").map(drop)
        })?;
    }
    ensure!(testbed.counters()?.get(GuardWrongAcks) == 0);
    Ok(())
}

/// Where nobody was challenged, there is nobody to wait for.
fn a_guard_that_challenged_nobody_has_its_secret_at_once(mode: Mode) -> Result<()> {
    const FOREVER: &str = "1000000";
    let testbed = GuardTestbed::new(mode)?;
    let listener = testbed.base.listen(Family::V4)?;
    let port = listener.port();
    testbed.guard(port, "on", &[])?;
    let secrets = secrets()?;
    for secret in &secrets {
        let mut command = set(&testbed, port, secret, FOREVER);
        process::succeed(&mut command, LIMIT)?;
    }
    // Nor where the secret stays.
    Ends::connect(&testbed.base.pair, &listener, Family::V4, Method::Plain)?;
    let mut command = set(&testbed, port, &secrets[1], FOREVER);
    process::succeed(&mut command, LIMIT).map(drop)
}

in_each_mode! {
    handshakes_in_flight_outlive_their_secret;
    connections_open_while_a_secret_is_replaced;
    a_guard_that_challenged_nobody_has_its_secret_at_once;
}
