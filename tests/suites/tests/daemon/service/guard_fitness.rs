//! The `[guard]` section on hosts where the guard cannot work, and challenges that nobody completes.

use std::process::Command;

use anyhow::{Result, ensure};
use serde_json::json;
use tfo_testbed::{
    keys::KeyFile,
    netns::Netns,
    packet::linux_options,
    prometheus::{METRICS, get},
    raw::{Answer, RawClient, RawSyn},
    testbed::Testbed,
    tfo,
    veth::{Family, Pair, SERVER_INTERFACE, server_port},
};

use super::running::{Running, eventually};

fn set_rules(netns: &Netns, rules: &str) -> Result<()> {
    netns
        .done("nft", &[&format!("flush ruleset; {rules}")])
        .map(drop)
}

/// The port that is translated is left out; the other one is guarded.
#[test]
fn a_translated_port_is_left_out_unless_the_section_insists() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    // The other port is exempt from NAT.
    set_rules(
        server,
        "table ip t { chain pre { type nat hook prerouting priority dstnat; tcp dport 443 redirect to :8443; }; \
         chain raw { type filter hook prerouting priority raw; tcp dport 80 notrack; }; }",
    )?;
    let text = |force: &str| {
        format!(
            "interfaces = ['{SERVER_INTERFACE}']\nmode = 'generic'\n[metrics]\nlisten = '{METRICS}'\n\
             [guard]\n{force}\n[guard.port.443]\nmode = 'on'\n[guard.port.80]\nmode = 'on'\n"
        )
    };
    let file = KeyFile::new(&text(""))?;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    let on = || -> Result<_> { Ok(testbed.tfo.json(&["status"])?["guard"]["ports_on"].clone()) };
    ensure!(on()? == json!([80]), "{}", on()?);
    let health = get(server, "/healthz")?;
    let said = health
        .body
        .contains("guard not in force: port 443: netfilter translates packets there");
    ensure!(health.status == 503 && said, "{health:?}");
    file.replace(&text("force = true"))?;
    running.reload()?;
    ensure!(on()? == json!([80, 443]), "{}", on()?);
    // Answers are cached for a second.
    eventually("the whole guard is in force", || {
        let health = get(server, "/healthz")?;
        Ok(!health.body.contains("guard not in force"))
    })?;
    running.end_having_said(&[
        "WARN",
        "port 443: netfilter translates packets there",
        "(redirect)",
        "force = true",
    ])
}

/// With native XDP on veth and no program on the peer, nobody would get a challenge.
#[test]
fn an_interface_that_cannot_answer_is_left_out() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let text = |force: &str| {
        format!(
            "interfaces = ['{SERVER_INTERFACE}']\nmode = 'native'\n[guard]\n{force}\n[guard.default]\nmode = 'on'\n"
        )
    };
    let file = KeyFile::new(&text(""))?;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    ensure!(testbed.tfo.json(&["guard", "show"])? == json!({ "in_force": false }));
    file.replace(&text("force = true"))?;
    running.reload()?;
    ensure!(testbed.tfo.json(&["guard", "show"])?["in_force"] == true);
    running.end_having_said(&["no native XDP program", "guard: 1 rule in force"])
}

/// The service says that nobody answers, once, and the doctor does.
#[test]
fn challenges_that_nobody_completes_are_told() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let listener = testbed.listen(Family::V4)?;
    let port = listener.port();
    let text = format!(
        "interfaces = ['{SERVER_INTERFACE}']\nmode = 'generic'\n[guard]\nreplies = '1000000/s'\n\
         [guard.port.{port}]\nmode = 'on'\n"
    );
    let file = KeyFile::new(&text)?;
    let mut command = Command::new(tfo::binary());
    command.env("TFO_TEST_GUARD_WINDOW", "1000");
    let mut running = Running::launch(command, Some(server), &["-c", file.path()])?;
    running.wait_for("READY=1")?;
    let mut client = RawClient::new(&testbed.pair, Family::V4, 0)?;
    let said = format!("port {port}: ");
    let told = |running: &Running| {
        let log = running.log();
        log.lines()
            .any(|line| line.contains(&said) && line.contains("no client completed"))
    };
    let syn = RawSyn {
        options: linux_options(&[]).to_vec(),
        data: Vec::new(),
    };
    // As fast as they are answered, so that enough of them come together in one window.
    for _ in 0..20_000 {
        client.next_port();
        let answer = client.send(server_port(Family::V4, port), &syn)?;
        ensure!(matches!(answer, Answer::SynAck { .. }), "{answer:?}");
        if told(&running) {
            break;
        }
    }
    running.wait_for_log("no client completed the handshake in the last minute")?;
    let doctor = testbed.tfo.run(&["doctor", "--json"])?;
    ensure!(doctor.stdout.contains("guard and answers"), "{doctor:?}");
    running.end().map(drop)
}
