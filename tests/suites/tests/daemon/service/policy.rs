//! The policy of the configuration.

use std::net::SocketAddr;

use anyhow::{Result, ensure};
use serde_json::{Value, json};
use tfo_tests::{
    bed::Bed,
    keys::KeyFile,
    prometheus::{METRICS, get},
    socket::{Listener, Settings},
    veth::{Family, Pair, SERVER_INTERFACE},
};

use crate::running::Running;

fn shown(bed: &Bed) -> Result<Value> {
    bed.tfo.json(&["policy", "show"])
}

fn bad(policy: &Value) -> &str {
    let action = policy["default"]["actions"]["bad"].as_str();
    action.unwrap_or("there is none")
}

#[test]
fn a_section_is_in_force_for_as_long_as_it_stands() -> Result<()> {
    let bed = Bed::idle(Pair::new()?)?;
    let text = |policy: &str| format!("interfaces = ['{SERVER_INTERFACE}']\n{policy}");
    let file = KeyFile::new(&text(""))?;
    bed.tfo.done(&["attach", SERVER_INTERFACE])?;
    bed.tfo.done(&["policy", "set", "--bad", "fallback"])?;
    let mut running = Running::start(Some(&bed.pair.server), &["-c", file.path()])?;
    // Without a section, what is in force stays.
    ensure!(bad(&shown(&bed)?) == "fallback");
    running.reload()?;
    ensure!(bad(&shown(&bed)?) == "fallback");

    let list = KeyFile::new("192.0.2.0/24\n")?;
    let section = format!(
        "[policy]\ndeny = '{}'\n[policy.default]\nbad = 'drop'",
        list.path()
    );
    file.replace(&text(&section))?;
    running.reload()?;
    let policy = shown(&bed)?;
    ensure!(
        bad(&policy) == "drop" && policy["lists"]["deny"] == 1,
        "{policy}"
    );

    // A mistake, in a list too, changes nothing.
    list.replace("192.0.2.0/24\nx\n")?;
    running.reload()?;
    file.replace(&text("[policy.default]\nbad = 'sink'"))?;
    running.reload()?;
    ensure!(shown(&bed)? == policy);

    // What someone else did is put right, and a list is read anew.
    list.replace("192.0.2.0/24\n198.51.100.0/24\n")?;
    file.replace(&text(&section))?;
    bed.tfo.done(&["policy", "clear"])?;
    running.reload()?;
    let policy = shown(&bed)?;
    ensure!(
        bad(&policy) == "drop" && policy["lists"]["deny"] == 2,
        "{policy}"
    );

    // It goes with its section, and comes with it at a start.
    file.replace(&text(""))?;
    running.reload()?;
    ensure!(shown(&bed)? == json!({ "in_force": false }));
    running.end_having_said(&[
        "line 2",
        ":3: ",
        "nothing changed",
        "rules in force",
        "policy: cleared",
    ])?;
    file.replace(&text(&section))?;
    Running::start(Some(&bed.pair.server), &["-c", file.path()])?.end()?;
    ensure!(bad(&shown(&bed)?) == "drop");
    Ok(())
}

#[test]
fn a_policy_that_cannot_hold_is_told_and_leaves_the_one_before() -> Result<()> {
    let bed = Bed::idle(Pair::new()?)?;
    let server = &bed.pair.server;
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
    ensure!(bad(&shown(&bed)?) == "drop");
    let health = get(server, "/healthz")?;
    let told = health.body.contains("[policy.default]") && health.body.contains("NO_COOKIE");
    ensure!(health.status == 503 && told, "{health:?}");
    ensure!(
        get(server, "/metrics")?
            .body
            .contains("\ntfo_policy_refused 1\n")
    );

    file.replace(&(text("reissue") + "no-cookie = 'drop'\n"))?;
    running.reload()?;
    ensure!(bad(&shown(&bed)?) == "reissue");
    // An answer is given again for a second.
    std::thread::sleep(std::time::Duration::from_millis(1100));
    ensure!(get(server, "/healthz")?.status == 200);
    running.end_having_said(&["[policy.default]"])
}
