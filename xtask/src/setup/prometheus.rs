//! Prometheus and its promtool, which the tests of the metrics ask.
//!
//! Debian's package is unpacked, not installed: installed, it would start a server on this machine, and
//! again at every boot.

use std::path::PathBuf;

use anyhow::{Result, bail};

use crate::command::{repository, which};

use super::apt::Apt;

/// What [`install`] does.
pub(super) const PLAN: &str = "unpack Debian's prometheus in target/tools";

const PROGRAMS: [&str; 2] = ["prometheus", "promtool"];

/// Where the tests look first.
fn folder() -> PathBuf {
    repository().join("target/tools")
}

/// The folder with both programs: where they were unpacked, or the system's.
pub(super) fn find() -> Option<PathBuf> {
    let unpacked = folder().join("usr/bin");
    if PROGRAMS.iter().all(|name| unpacked.join(name).is_file()) {
        return Some(unpacked);
    }
    let paths: Option<Vec<_>> = PROGRAMS.iter().map(|name| which(name)).collect();
    paths.and_then(|paths| Some(paths.first()?.parent()?.to_owned()))
}

/// Gets them where they are missing.
pub(super) fn install(apt: &mut Apt) -> Result<()> {
    if find().is_some() {
        return Ok(());
    }
    apt.unpack("prometheus", &folder())?;
    match find() {
        Some(_) => Ok(()),
        None => bail!("Debian's prometheus was unpacked and has no promtool"),
    }
}
