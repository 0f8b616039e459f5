//! Licences, sources and duplicate versions of the dependencies: `cargo deny`, as deny.toml says.
//!
//! Advisories need the `RustSec` database, a git repository on the network. Where it cannot be fetched they are not
//! checked, and a line says so.

use std::{process::Stdio, time::Duration};

use anyhow::Result;

use crate::{
    command::{cargo, succeed, succeeds_within},
    setup,
};

/// A machine without network access may take minutes to fail.
const FETCH_PATIENCE: Duration = Duration::from_secs(45);

/// Runs `cargo deny check`. A warning is an error, so that no exception in deny.toml outlives its reason.
pub(super) fn check() -> Result<()> {
    setup::cargo_deny()?;
    let mut deny = cargo();
    deny.args(["deny", "check", "--deny", "warnings"]);
    succeed(deny.args(["licenses", "bans", "sources"]))?;
    let mut fetch = cargo();
    fetch
        .args(["deny", "fetch", "db"])
        .env("GIT_TERMINAL_PROMPT", "0")
        .stdin(Stdio::null())
        .stderr(Stdio::null());
    if !succeeds_within(&mut fetch, FETCH_PATIENCE) {
        println!(
            "tfo: advisories are not checked: the RustSec database cannot be fetched from here"
        );
        return Ok(());
    }
    succeed(cargo().args(["deny", "check", "--disable-fetch", "advisories"]))
}
