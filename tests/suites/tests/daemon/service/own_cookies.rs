//! The `[cookies]` section of the configuration.

use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use tfo_testbed::{
    keys::KeyFile,
    prometheus::{METRICS, get},
    socket::Method,
    testbed::Testbed,
    tfo::binary,
    veth::{Family, Pair, SERVER_INTERFACE},
};

use super::running::{Running, eventually};

const SECRET: &str = "363ec6a05e76eedeb9eb73bc5c25ca5f13f7c1df70c9af3531db4c83d23a8f6b";

fn shown(testbed: &Testbed) -> Result<Value> {
    testbed.tfo.json(&["cookies", "show"])
}

fn slot(testbed: &Testbed) -> Result<u64> {
    shown(testbed)?["slot"].as_u64().context("no slot")
}

#[test]
fn a_section_is_in_force_for_as_long_as_it_stands() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let text = |section: &str| format!("interfaces = ['{SERVER_INTERFACE}']\n{section}");
    let secret = KeyFile::new(SECRET)?;
    let file = KeyFile::new(&text(""))?;
    let mut running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    ensure!(shown(&testbed)?["in_force"] == false);
    file.replace(&text("[cookies]\nlifetime = '3d'"))?;
    running.reload()?;
    let cookies = shown(&testbed)?;
    ensure!(cookies["secrets"] == "random" && cookies["lifetime_seconds"] == 3 * 86_400);
    // A mistake changes nothing.
    file.replace(&text("[cookies]\nlifetime = '3h'"))?;
    running.reload()?;
    ensure!(shown(&testbed)? == cookies);
    let shared = format!(
        "[cookies]\nservice = 'web'\nsource = 'secret'\npath = '{}'",
        secret.path()
    );
    file.replace(&text(&shared))?;
    running.reload()?;
    let cookies = shown(&testbed)?;
    ensure!(cookies["secrets"] == "secret" && cookies["service"] == "web");
    // Set by hand, they stay: without their section they would go.
    file.replace(&text("[cookies]\nmode = 'kernel'"))?;
    running.reload()?;
    ensure!(shown(&testbed)?["in_force"] == false);
    file.replace(&text(&shared))?;
    running.reload()?;
    file.replace(&text(""))?;
    running.reload()?;
    ensure!(shown(&testbed)?["in_force"] == false);
    running.end_having_said(&[
        "1 to 100 whole intervals",
        "own cookies: in force",
        "own cookies: cleared",
    ])
}

/// A secret that cannot be read is reported, and is in force once it can be read.
#[test]
fn a_secret_that_cannot_be_read_is_told() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let secret = KeyFile::new(SECRET)?;
    let missing = format!("{}.nonexistent", secret.path());
    let text = format!(
        "interfaces = ['{SERVER_INTERFACE}']\n[cookies]\nsource = 'secret'\npath = '{missing}'\n[metrics]\nlisten = '{METRICS}'"
    );
    let file = KeyFile::new(&text)?;
    let running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    ensure!(shown(&testbed)?["in_force"] == false);
    let health = get(&testbed.pair.server, "/healthz")?;
    ensure!(health.status == 503, "{health:?}");
    for part in ["own cookies not as configured", ".nonexistent"] {
        ensure!(health.body.contains(part), "{health:?}");
    }
    let refused = |value: u8| -> Result<bool> {
        let metrics = get(&testbed.pair.server, "/metrics")?;
        let line = format!("tfo_own_cookies_refused {value}");
        Ok(metrics.body.lines().any(|it| it == line))
    };
    eventually("the metric tells", || refused(1))?;
    std::fs::rename(secret.path(), &missing)?;
    eventually(
        "it is in force",
        || Ok(shown(&testbed)?["in_force"] == true),
    )?;
    eventually("it is well", || {
        let health = get(&testbed.pair.server, "/healthz")?;
        Ok(health.status == 200 && refused(0)?)
    })?;
    std::fs::rename(&missing, secret.path())?;
    running.end_having_said(&[".nonexistent", "own cookies: in force"])
}

/// A controller whose clock is ahead has the data path count by that clock, and no cookie is lost.
#[test]
fn slots_follow_the_wall_clock() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    let secret = KeyFile::new(SECRET)?;
    let text = format!(
        "interfaces = ['{SERVER_INTERFACE}']\n[keys]\nsource = 'kernel'\n[cookies]\nsource = 'secret'\npath = '{}'",
        secret.path()
    );
    let file = KeyFile::new(&text)?;
    let set = ["cookies", "set", "--secret-file", secret.path()];
    testbed.tfo.done(&set)?;
    testbed.request_cookie(&listener, Family::V4)?;
    let before = slot(&testbed)?;
    for days in [3_u64, 6, 12] {
        let mut command = std::process::Command::new(binary());
        command.env("TFO_TEST_CLOCK_OFFSET", (days * 86_400).to_string());
        let server = &testbed.pair.server;
        let running = Running::launch(command, Some(server), &["-c", file.path()])?;
        eventually("the slot is the clock's", || {
            // The turn of a day may come in between.
            let now = slot(&testbed)?;
            Ok(now == before + days || now == before + days + 1)
        })?;
        testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
        running.end()?;
    }
    Ok(())
}

/// A secret that is gone when it is to be renewed is told; what was in force stays.
#[test]
fn a_renewal_that_fails_is_told() -> Result<()> {
    let testbed = Testbed::idle(Pair::new()?)?;
    let secret = KeyFile::new(SECRET)?;
    let text = format!(
        "interfaces = ['{SERVER_INTERFACE}']\n[cookies]\ninterval = '10s'\nlifetime = '100s'\nsource = 'secret'\npath = '{}'\n[metrics]\nlisten = '{METRICS}'",
        secret.path()
    );
    let file = KeyFile::new(&text)?;
    let running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    std::fs::rename(secret.path(), format!("{}.away", secret.path()))?;
    eventually("it is told", || {
        let health = get(&testbed.pair.server, "/healthz")?;
        Ok(health.status == 503 && health.body.contains("own cookies not as configured"))
    })?;
    ensure!(shown(&testbed)?["in_force"] == true);
    std::fs::rename(format!("{}.away", secret.path()), secret.path())?;
    eventually("it is well again", || {
        let health = get(&testbed.pair.server, "/healthz")?;
        Ok(health.status == 200)
    })?;
    running.end_having_said(&[secret.path()])
}

/// Secrets that another program writes: a staged one is taken before it issues, one that is removed no longer.
#[test]
fn secrets_in_a_file_are_numbered() -> Result<()> {
    let testbed = Testbed::new()?;
    let listener = testbed.listen(Family::V4)?;
    let line = |number: u32, issues: bool| {
        let word = if issues { " issues" } else { "" };
        format!("{number} 0000000{number}-11111111-22222222-33333333{word}\n")
    };
    let secrets = KeyFile::new(&line(6, true))?;
    let text = format!(
        "interfaces = ['{SERVER_INTERFACE}']\n[cookies]\nsource = 'file'\npath = '{}'\n[metrics]\nlisten = '{METRICS}'",
        secrets.path()
    );
    let file = KeyFile::new(&text)?;
    let running = Running::start(Some(&testbed.pair.server), &["-c", file.path()])?;
    let shown_is = |slot: u64, says: &str| {
        eventually(says, || {
            let shown = shown(&testbed)?;
            Ok(shown["slot"] == slot && shown["secrets"] == "file")
        })
    };
    shown_is(6, "the file is in force")?;
    ensure!(shown(&testbed)?["seconds_left"].is_null());
    testbed.request_cookie(&listener, Family::V4)?;
    let cookie = testbed
        .pair
        .cached_cookie(Family::V4)?
        .context("no cookie")?;
    ensure!(cookie[0] == 6, "{cookie:02x?}");
    // By hand the rules of a file do not change.
    let refused = testbed.tfo.run(&["cookies", "set", "--service", "web"])?;
    refused.ensure_refused(&["source = \"file\"", "tfo cookies clear"])?;
    secrets.replace(&(line(6, false) + &line(7, true) + &line(8, false)))?;
    shown_is(7, "the next one issues")?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    secrets.replace("7 secret issues\n")?;
    eventually("a mistake is told", || {
        let health = get(&testbed.pair.server, "/healthz")?;
        Ok(health.status == 503 && health.body.contains("line 1 is not NUMBER SECRET"))
    })?;
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    secrets.replace(&(line(7, true) + &line(8, false)))?;
    eventually("it is well again", || {
        Ok(get(&testbed.pair.server, "/healthz")?.status == 200)
    })?;
    // Its secret is gone: the kernel refuses it, and the data comes after the handshake.
    let refused = || Ok::<_, anyhow::Error>(testbed.kernel()?.get("TCPFastOpenPassiveFail"));
    ensure!(refused()? == 0);
    testbed.after_handshake(&listener, Family::V4, Method::SendTo)?;
    ensure!(refused()? == 1);
    let cookie = testbed
        .pair
        .cached_cookie(Family::V4)?
        .context("no cookie")?;
    ensure!(cookie[0] == 7, "{cookie:02x?}");
    testbed.in_syn(&listener, Family::V4, Method::SendTo)?;
    running.end_having_said(&["line 1 is not NUMBER SECRET"])
}
