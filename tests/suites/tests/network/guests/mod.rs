//! A guest with network devices and another kernel, as another machine: the edge of a split guard, or a server.

mod drivers;
mod edge;

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::Counter;
use tfo_testbed::{guest::Guest, poll::eventually, tfo::LIMIT};

/// Checks that the data path in the guest has counted at least so much, and as its kernel has.
fn ensure_counted(guest: &Guest, least: &[(Counter, i64)]) -> Result<()> {
    let stats = guest.tfo_json("stats --check")?;
    for (counter, least) in least {
        let name = counter.name();
        let count = stats["counters"][name].as_i64();
        let count = count.with_context(|| format!("no {name}"))?;
        ensure!(count >= *least, "{name}: {count} of {least}");
    }
    let drift = stats["drift"].as_object().context("no drift")?;
    ensure!(drift.values().all(|drift| *drift == 0), "{drift:?}");
    Ok(())
}

/// What `tfo doctor` says of a device's native XDP.
fn doctor(guest: &Guest, interface: &str) -> Result<String> {
    let found = guest.tfo_json(&format!("doctor {interface}"))?;
    let findings = found["findings"].as_array().map_or(&[][..], Vec::as_slice);
    let xdp = findings.iter().find(|each| each["check"] == "XDP");
    let said = xdp.and_then(|xdp| xdp["found"].as_str());
    said.map(str::to_owned)
        .with_context(|| format!("no finding about XDP: {found:#}"))
}

/// Connects until data is taken in the SYN: one that is sent again, where a machine is slow, has none.
fn until_in_syn(ask: impl FnMut() -> Result<bool>) -> Result<()> {
    eventually("data is taken in the SYN", LIMIT, ask).map(drop)
}
