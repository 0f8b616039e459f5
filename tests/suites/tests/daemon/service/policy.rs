//! The `[policy]` section of the configuration.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tfo_testbed::{
    keys::KeyFile,
    process::ensure_says,
    prometheus::{METRICS, get},
    socket::{Listener, Settings},
    testbed::Testbed,
    veth::{Family, Pair, SERVER_INTERFACE},
};

use super::running::{Running, eventually};

fn shown(testbed: &Testbed) -> Result<Value> {
    testbed.tfo.json(&["policy", "show"])
}

fn bad(policy: &Value) -> &str {
    let action = policy["default"]["actions"]["bad"].as_str();
    action.unwrap_or("there is none")
}

#[test]
fn a_section_is_in_force_for_as_long_as_it_stands() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let text = |policy: &str| format!("interfaces = ['{SERVER_INTERFACE}']\n{policy}");
    let file = KeyFile::new(&text(""))?;
    testbed.tfo.done(&["attach", SERVER_INTERFACE])?;
    testbed.tfo.done(&["policy", "set", "--bad", "fallback"])?;
    let mut running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    // Without a section, the policy in force stays.
    ensure!(bad(&shown(&testbed)?) == "fallback");
    running.reload()?;
    ensure!(bad(&shown(&testbed)?) == "fallback");

    let list = KeyFile::new("192.0.2.0/24\n")?;
    let section = format!(
        "[policy]\ndeny = '{}'\n[policy.default]\nbad = 'drop'",
        list.path()
    );
    file.replace(&text(&section))?;
    running.reload()?;
    let policy = shown(&testbed)?;
    ensure!(
        bad(&policy) == "drop" && policy["lists"]["deny"] == 1,
        "{policy}"
    );

    // An error, in a list file too, changes nothing.
    list.replace("192.0.2.0/24\nx\n")?;
    running.reload()?;
    file.replace(&text("[policy.default]\nbad = 'sink'"))?;
    running.reload()?;
    ensure!(shown(&testbed)? == policy);

    // A reload reverts a manual change, and reads the lists again.
    list.replace("192.0.2.0/24\n198.51.100.0/24\n")?;
    file.replace(&text(&section))?;
    testbed.tfo.done(&["policy", "clear"])?;
    running.reload()?;
    let policy = shown(&testbed)?;
    ensure!(
        bad(&policy) == "drop" && policy["lists"]["deny"] == 2,
        "{policy}"
    );

    // Without its section, the policy is removed. A start with the section sets it.
    file.replace(&text(""))?;
    running.reload()?;
    ensure!(shown(&testbed)? == json!({ "in_force": false }));
    running.end_having_said(&[
        "line 2",
        ":3: ",
        "nothing changed",
        "rules in force",
        "policy: cleared",
    ])?;
    file.replace(&text(&section))?;
    Running::start(Some(&testbed.pair.server), &["-c", file.path()])?.end()?;
    ensure!(bad(&shown(&testbed)?) == "drop");
    Ok(())
}

#[test]
fn a_policy_that_cannot_hold_is_told_and_leaves_the_one_before() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let server = &testbed.pair.server;
    let text = |action: &str| {
        format!(
            "interfaces = ['{SERVER_INTERFACE}']\n[metrics]\nlisten = '{METRICS}'\n[policy.default]\nbad = '{action}'\n"
        )
    };
    let file = KeyFile::new(&text("drop"))?;
    let mut running = Running::start(Some(server), &["-c", file.path()])?;
    let settings = Settings {
        no_cookie: true,
        ..Settings::FAST_OPEN
    };
    let address = SocketAddr::new(Family::V4.unspecified(), 0);
    let _listener = Listener::with(server, address, &settings)?;
    file.replace(&text("reissue"))?;
    running.reload()?;
    ensure!(bad(&shown(&testbed)?) == "drop");
    let health = get(server, "/healthz")?;
    let told = health.body.contains("[policy.default]") && health.body.contains("NO_COOKIE");
    ensure!(health.status == 503 && told, "{health:?}");
    ensure_says(
        &get(server, "/metrics")?.body,
        &["\ntfo_policy_refused 1\n"],
    )?;

    file.replace(&(text("reissue") + "no-cookie = 'drop'\n"))?;
    running.reload()?;
    ensure!(bad(&shown(&testbed)?) == "reissue");
    // Answers are cached for a second.
    eventually("it is healthy", || {
        Ok(get(server, "/healthz")?.status == 200)
    })?;
    running.end_having_said(&["[policy.default]"])
}
