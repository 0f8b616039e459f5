//! Prometheus and promtool, for the tests of the metrics.
//!
//! Debian's package is unpacked, not installed: its installation would start a server, also at every boot.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::command::{repository, which};

use super::apt::Apt;

/// The survey's text for [`install`].
pub(super) const PLAN: &str = "unpack Debian's prometheus in target/tools";

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// The folder in which the tests look first.
fn folder() -> PathBuf {
    repository().join("target/tools")
}

/// The folder of both programs: the unpacked ones, else the system's.
pub(super) fn find() -> Option<PathBuf> {
    let unpacked = folder().join("usr/bin");
    if PROGRAMS.iter().all(|name| unpacked.join(name).is_file()) {
        return Some(unpacked);
    }
    let paths: Option<Vec<_>> = PROGRAMS.iter().map(|name| which(name)).collect();
    paths.and_then(|paths| Some(paths.first()?.parent()?.to_owned()))
}

/// Unpacks Debian's package if the programs are missing.
pub(super) fn install(apt: &mut Apt) -> Result<()> {
    if find().is_some() {
        return Ok(());
    }
    apt.unpack("prometheus", &folder())?;
    match find() {
        Some(_) => Ok(()),
        None => bail!("Debian's package prometheus has no promtool"),
    }
}
