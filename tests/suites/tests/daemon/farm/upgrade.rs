//! A farm that an earlier `tfo` founded, in the format before sealed records, here without a seal.

use std::{
    fs,
    time::{SystemTime, UNIX_EPOCH},
};

use anyhow::{Result, ensure};
use serde_json::json;
use tfo_common::fastopen::Key;
use tfo_testbed::process::ensure_says;
use tfo_userspace::model::Fingerprint;

use super::host::{Farm, eventually};

/// 16 bytes, and their base64.
const KEY: [u8; 16] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1];
const BASE64: &str = "AAAAAAAAAAAAAAAAAAAAAQ==";

#[test]
fn a_farm_of_the_earlier_format_keeps_its_keys() -> Result<()> {
    let mut farm = Farm::new(2, "24h", "")?;
    let current = Fingerprint::of(&Key::from_bytes(KEY)).to_string();
    // No rotation is due.
    let since = SystemTime::now().duration_since(UNIX_EPOCH)?.as_millis() as u64;
    let head = json!({
        "format": 1, "farm": "0123456789abcdef", "epoch": 3, "phase": "steady", "since": since, "writer": "web-1",
        "current": current, "other": null,
    });
    let document = json!({"head": head, "keys": BASE64}).to_string();
    farm.etcd.put("/tfo/document", &document)?;
    let state = farm.scratch.path().join("state");
    fs::create_dir(&state)?;
    for name in ["web-1", "web-2"] {
        let config = farm.scratch.path().join(format!("{name}.toml"));
        let text = fs::read_to_string(&config)?;
        let lines = text.lines().filter(|line| !line.starts_with("seal = "));
        fs::write(&config, lines.collect::<Vec<_>>().join("\n") + "\n")?;
        let stored = json!({"instance": name, "document": document}).to_string();
        fs::write(state.join(format!("{name}.farm")), stored)?;
        // A record of the earlier format.
        let record =
            json!({"instance": name, "version": "0.1.0", "lease": null, "step": 6}).to_string();
        farm.etcd.put(&format!("/tfo/hosts/{name}"), &record)?;
    }
    for host in &mut farm.hosts {
        host.start()?;
    }
    // Each host has the keys that it has stored, and says what is to be done.
    let told = "it has format 1, of an earlier tfo: once all hosts run this version";
    for host in &farm.hosts {
        eventually(told, || Ok(host.tfo.done(&["status"])?.contains(told)))?;
        eventually("the stored key is in force", || {
            Ok(host.tfo.done(&["keys", "show"])?.contains(&current))
        })?;
    }
    let keys = farm.hosts[1].keys()?;
    let said = farm.control(&["init", "--replace"])?;
    ensure_says(
        &said,
        &["epoch 3, steady", "what this host has stored", &current],
    )?;
    farm.settle()?;
    ensure!(farm.epoch()? == 3);
    for host in &farm.hosts {
        ensure!(host.keys()? == keys, "{}", host.name);
    }
    let said = farm.control(&["rotate", "--now"])?;
    ensure_says(&said, &["all of 2 hosts issue"])
}
