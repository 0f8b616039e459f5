//! A lock that another process does not release.

use std::process::Command;

use anyhow::{Result, ensure};
use tfo_testbed::{
    keys,
    pins::PinsLock,
    poll::eventually,
    process::Background,
    prometheus::{METRICS, get},
    testbed::Testbed,
    tfo::{self, LIMIT},
    veth::SERVER_INTERFACE,
};

#[test]
fn no_answer_waits_for_a_lock() -> Result<()> {
    let testbed = Testbed::new()?;
    let server = &testbed.pair.server;
    let mut command = Command::new(tfo::binary());
    command
        .args(["run", "-i", SERVER_INTERFACE, "--interval", "1s"])
        .args(["--metrics", &METRICS.to_string()])
        .args(["--netns", server.name()])
        // Longer than the test.
        .env("TFO_TEST_LOCK_WAIT", "3600");
    let mut running = Background::start(&mut command)?;
    running.wait_for_text("capabilities left", LIMIT)?;
    let lock = PinsLock::take(server)?;
    // A rotation is due, and waits.
    let holder = format!("waiting for process {} (", std::process::id());
    running.wait_for_text(&holder, LIMIT)?;
    let key = server.sysctl(keys::SYSCTL)?;
    for _ in 0..3 {
        for path in ["/metrics", "/healthz"] {
            let answer = get(server, path)?;
            ensure!(answer.status == 200, "{path}: {answer:?}");
        }
        let answer = get(server, "/metrics")?;
        ensure!(
            answer
                .body
                .contains("tfo_interface_attached{interface=\"server0\"} 1"),
            "{answer:?}"
        );
        // The next one is not of the same scrape.
        std::thread::sleep(std::time::Duration::from_millis(1100));
    }
    ensure!(server.sysctl(keys::SYSCTL)? == key, "a key changed");
    drop(lock);
    eventually("a rotation", LIMIT, || {
        Ok(server.sysctl(keys::SYSCTL)? != key)
    })?;
    let ended = running.terminate(LIMIT)?;
    ensure!(ended.status.success(), "{ended:?}");
    Ok(())
}
