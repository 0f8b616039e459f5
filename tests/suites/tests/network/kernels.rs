//! Each feature once on the running kernel. `cargo xtask vm` runs this suite on other kernels and makes its table of
//! it. Expectations depend on the release where kernels differ.

mod decap;
mod edge;
mod policies;
mod stacks;
mod tunnels;
mod xdp_tools;

use std::net::SocketAddr;

use anyhow::{Context as _, Result, ensure};
use aya::programs::loaded_programs;
use tfo_common::fastopen::Key;
use tfo_testbed::{
    kernel::{feature, feature_since, is_before},
    keys,
    poll::eventually,
    process::{self, Background},
    raw::{Answer, RawClient, RawSyn},
    socket::{Listener, Method, Settings},
    testbed::{Tally, Testbed},
    tfo::{LIMIT, binary},
    veth::{CLIENT_INTERFACE, Family, Pair, SERVER_INTERFACE, server_port},
    xdp::{Mode, Other},
};

/// Attaches with these arguments. Returns the output of `tfo`.
fn attach(testbed: &mut Testbed, arguments: &[&str]) -> Result<String> {
    // The error has the whole output: on other machines it is all there is to see.
    let said = testbed
        .tfo
        .done(&[&["attach", "-v", SERVER_INTERFACE], arguments].concat())?;
    testbed.restart()?;
    Ok(said)
}

/// A cookie request in each family, and a connection that uses the cookie.
fn traffic(testbed: &Testbed, so_far: Tally) -> Result<Tally> {
    let listener = testbed.listen(Family::V6)?;
    testbed.pair.forget_cookies()?;
    for family in Family::BOTH {
        testbed.request_cookie(&listener, family)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    let tally = Tally {
        requests: so_far.requests + 2,
        passive: so_far.passive + 2,
        ..so_far
    };
    testbed.expect(tally)?;
    Ok(tally)
}

#[test]
fn xdp_native_and_generic() -> Result<()> {
    let mut testbed = Testbed::idle(Pair::new()?)?;
    for mode in ["native", "generic"] {
        let said = attach(&mut testbed, &["--mode", mode])?;
        ensure!(
            said.contains(&format!("{mode} mode")) && said.contains("exact mirror"),
            "{said}"
        );
        traffic(&testbed, Tally::default())?;
        testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
        feature(&format!("XDP, {mode}"), "yes");
    }
    feature("exact mirror", "yes");
    Ok(())
}

#[test]
fn traffic_control() -> Result<()> {
    let mut testbed = Testbed::idle(Pair::new()?)?;
    let said = attach(&mut testbed, &["--mode", "tc"])?;
    ensure!(said.contains("tc mode"), "{said}");
    let tcx = !said.contains("clsact");
    traffic(&testbed, Tally::default())?;
    testbed.tfo.done(&["detach", SERVER_INTERFACE])?;
    let mut tc = testbed.pair.server.command("tc");
    tc.args(["qdisc", "show", "dev", SERVER_INTERFACE]);
    let left = tfo_testbed::process::succeed(&mut tc, LIMIT)?;
    ensure!(!left.contains("clsact"), "{left}");
    let forms = ["TCX link", "clsact filter"];
    feature_since("traffic control", (6, 6), tcx, forms)
}

/// The kernel follows a million instructions of a program at most, and each release follows some programs further than others.
#[test]
fn the_verifier_has_room() -> Result<()> {
    const MOST: u32 = 400_000;
    for mode in ["native", "tc"] {
        let mut testbed = Testbed::idle(Pair::new()?)?;
        attach(&mut testbed, &["--mode", mode])?;
        // The guard takes Linux 6.9.
        if !is_before(6, 9)? {
            let guard = ["guard", "set", "--port", "80", "--force", "on"];
            testbed.tfo.done(&guard)?;
        }
        let mut programs = 0;
        for program in loaded_programs() {
            // Other tests' programs come and go.
            let Ok(program) = program else { continue };
            let name = program.name_as_str().unwrap_or_default().to_owned();
            // Before Linux 5.16 the kernel does not tell.
            let Some(followed) = program.verified_instruction_count() else {
                continue;
            };
            if name.starts_with("tfo_") {
                println!("{mode}: {name}: {followed}");
                ensure!(followed <= MOST, "{name}: {followed} instructions");
                programs += 1;
            }
        }
        ensure!(programs > 1, "{programs} programs");
    }
    Ok(())
}

#[test]
fn upgrades() -> Result<()> {
    for mode in ["native", "tc"] {
        let mut testbed = Testbed::idle(Pair::new()?)?;
        attach(&mut testbed, &["--mode", mode])?;
        let tally = traffic(&testbed, Tally::default())?;
        let said = testbed.tfo.done(&[
            "attach",
            "--replace",
            SERVER_INTERFACE,
            "--source-prefix-v4",
            "24",
        ])?;
        ensure!(said.contains("upgraded in place"), "{said}");
        // The earlier counts are still there.
        traffic(&testbed, tally)?;
    }
    feature("upgrade in place", "yes");
    Ok(())
}

#[test]
fn rotation() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V6)?;
    for family in Family::BOTH {
        testbed.request_cookie(&listener, family)?;
    }
    testbed.tfo.done(&["keys", "rotate"])?;
    for family in Family::BOTH {
        // The old key's cookie, then the new key's that replaced it.
        testbed.in_syn(&listener, family, Method::SendTo)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    testbed.expect(Tally {
        requests: 2,
        passive: 4,
        alt_key: 2,
        ..Tally::default()
    })?;
    feature("rotation", "yes");
    Ok(())
}

#[test]
fn keys_of_a_listener() -> Result<()> {
    const OWN: &[u8; Key::LEN] = b"a listener's key";
    let testbed = Testbed::new()?;
    let settings = Settings {
        keys: OWN,
        ..Settings::FAST_OPEN
    };
    let any = SocketAddr::new(Family::V4.unspecified(), 0);
    let listener = Listener::with(&testbed.pair.server, any, &settings)?;
    let server = server_port(Family::V4, listener.port());
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    let own = keys::cookie(&Key::from_bytes(*OWN), client.address(), server.ip());
    for (cookie, acked) in [(own, 4), (*b"no one's", 0)] {
        let answer = client.send(server, &RawSyn::fast_open(34, &cookie, b"data"))?;
        let taken = matches!(answer, Answer::SynAck { acked: taken, .. } if taken == acked);
        ensure!(taken, "{answer:?}");
    }
    testbed.expect(Tally {
        passive: 1,
        failed: 1,
        ..Tally::default()
    })?;
    // The verifier of older kernels cannot load a key from kernel context.
    let how = if is_before(6, 12)? {
        "copied by a helper"
    } else {
        "loaded"
    };
    feature("the kernel's own keys", how);
    Ok(())
}

#[test]
fn listeners_and_sources() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let shown = testbed.tfo.json(&["listeners"])?;
    let first = &shown["listeners"][0];
    ensure!(
        first["port"] == listener.port() && first["fast_open"] == "on",
        "{shown}"
    );
    feature("`tfo listeners`", "yes");
    let sources = testbed.tfo.done(&["stats", "--by", "source"])?;
    let client = format!("{}/32", Family::V4.client());
    ensure!(sources.contains(&client), "{sources}");
    feature("counts by source", "yes");
    Ok(())
}

/// A client that requests a cookie is challenged and gets one, which then proves its address. Without the kfunc the
/// kernel has no guard, and nothing else changes.
#[test]
fn guard() -> Result<()> {
    let present = [Mode::Native, Mode::Tc].map(guard_in);
    let [native, tc] = present;
    let (native, tc) = (native?, tc?);
    ensure!(native == tc, "native {native}, tc {tc}");
    let forms = ["yes", "refused; limits by policies"];
    feature_since("guard", (6, 9), native, forms)
}

/// A cookie that the data path issued is good when the kernel has other keys. Before TCX, a clsact filter issues it.
#[test]
fn own_cookies() -> Result<()> {
    let testbed = Testbed::attach(Pair::new()?, &[])?;
    let listener = testbed.listen(Family::V6)?;
    testbed.tfo.done(&["cookies", "set"])?;
    for family in Family::BOTH {
        testbed.request_cookie(&listener, family)?;
        let key = "11112222-33334444-55556666-77778888";
        testbed
            .pair
            .server
            .set_sysctl("net.ipv4.tcp_fastopen_key", key)?;
        testbed.in_syn(&listener, family, Method::SendTo)?;
    }
    let stats = testbed.tfo.stats()?;
    ensure!(stats.counters["OwnIssued"] == 2, "{stats:?}");
    ensure!(stats.counters["OwnYoung"] == 2, "{stats:?}");
    testbed.equal()?;
    testbed.tfo.done(&["cookies", "clear"])?;
    testbed.tfo.done(&["detach", "--all"])?;
    let mut tc = testbed.pair.server.command("tc");
    let left = process::output(tc.args(["qdisc", "show", "dev", SERVER_INTERFACE]), LIMIT)?;
    ensure!(
        left.status.success() && !left.stdout.contains("clsact"),
        "{left:?}"
    );
    feature("own cookies", "yes");
    Ok(())
}

/// Returns whether the kernel has what the guard needs.
fn guard_in(mode: Mode) -> Result<bool> {
    let pair = Pair::new()?;
    // With native XDP, veth delivers `XDP_TX` frames only if the peer has an XDP program, too.
    let _client = (mode == Mode::Native)
        .then(|| Other::attach(&pair.client, CLIENT_INTERFACE))
        .transpose()?;
    let testbed = Testbed::attach(pair, &["--mode", &mode.to_string()])?;
    let listener = testbed.listen(Family::V4)?;
    let said = testbed.tfo.run(&["guard", "set", "on"])?;
    testbed.request_cookie(&listener, Family::V4)?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    let counted = testbed.tfo.stats()?.counters;
    let counted =
        ["GuardChallenged", "GuardAccepted", "GuardProven"].map(|counter| counted[counter]);
    let present = said.status.success();
    if !present {
        let because = [
            "cannot open connections for the guard",
            "limit SYNs by `tfo policy`",
        ];
        let refused = because.iter().all(|part| said.stderr.contains(part));
        ensure!(said.status.code() == Some(1) && refused, "{said:?}");
    }
    let expected = if present { [1; 3] } else { [0; 3] };
    ensure!(counted == expected, "{counted:?}");
    Ok(present)
}

#[test]
fn events() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    let mut reader = testbed.tfo.start(&["events", "--json", "--count", "1"])?;
    // The reader does not report when it has started: connect until it has an event.
    while reader.is_running()? {
        testbed.pair.forget_cookies()?;
        testbed.exchange(&listener, Family::V4, Method::SendTo)?;
    }
    let said = reader.wait(LIMIT)?;
    let event: serde_json::Value =
        serde_json::from_str(said.stdout.trim()).with_context(|| format!("{said:?}"))?;
    ensure!(
        event["reason"].is_null() && said.status.success(),
        "{said:?}"
    );
    feature("`tfo events`", "yes");
    Ok(())
}

#[test]
fn doctor() -> Result<()> {
    let testbed = Testbed::new()?;
    let _listener = testbed.listen(Family::V4)?;
    let output = testbed.tfo.run(&["doctor", SERVER_INTERFACE, "--json"])?;
    let found: serde_json::Value = serde_json::from_str(&output.stdout)?;
    ensure!(
        output.status.code() == Some(0) && found["verdict"] != "problem",
        "{found:#}"
    );
    // Before Linux 6.3, drivers do not report XDP features.
    let findings = found["findings"].as_array().context("no findings")?;
    let xdp = findings.iter().find(|each| each["check"] == "XDP");
    let xdp = xdp.context("no finding about XDP")?;
    let how = xdp["verdict"].as_str().context("no verdict")?;
    // veth gives up GRO for native XDP.
    ensure!(["note", "unknown"].contains(&how), "{xdp:#}");
    let forms = ["told", "not told"];
    feature_since("what the driver can do", (6, 3), how == "note", forms)
}

/// A service starts on a server without prior state, rotates keys, and leaves the data path attached.
#[test]
fn service() -> Result<()> {
    let mut testbed = Testbed::idle(Pair::new()?)?;
    let mut command = std::process::Command::new(binary());
    command.args(["run", "-i", SERVER_INTERFACE, "--interval", "24h"]);
    command.args(["--netns", testbed.pair.server.name()]);
    let service = Background::start(&mut command)?;
    let attached = || -> Result<bool> {
        let status = testbed.tfo.json(&["status"])?;
        Ok(status["interfaces"][0]["mode"] == "tc")
    };
    eventually("it is attached", LIMIT, attached)?;
    testbed.restart()?;
    traffic(&testbed, Tally::default())?;
    service.signal(rustix::process::Signal::TERM)?;
    let output = service.wait(LIMIT)?;
    ensure!(output.status.success(), "{output:?}");
    testbed.equal()?;
    feature("`tfo run`", "yes");
    Ok(())
}
