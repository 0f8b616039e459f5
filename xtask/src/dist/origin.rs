//! What is made, of when and by whom: the version, the time of the commit, the maintainer.

use std::{env, process::Command};

use anyhow::{Context as _, Result};

use crate::command::{output, repository};

/// The project's version.
pub(super) const VERSION: &str = env!("CARGO_PKG_VERSION");
/// With the package's revision.
pub(super) const PACKAGE_VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), "-1");

/// The modification time of the package's files, in seconds since 1970: `SOURCE_DATE_EPOCH`, else the commit's time.
pub(super) fn epoch() -> Result<String> {
    if let Ok(epoch) = env::var("SOURCE_DATE_EPOCH") {
        return Ok(epoch);
    }
    let mut git = Command::new("git");
    git.args(["log", "-1", "--format=%ct"])
        .current_dir(repository());
    output(&mut git).context("git cannot show the commit's time: set SOURCE_DATE_EPOCH")
}

/// The commit's time, as `date` prints it in this format.
pub(super) fn date(format: &str) -> Result<String> {
    let at = format!("@{}", epoch()?);
    let mut date = Command::new("date");
    date.args(["--utc", format, "--date", &at])
        .env("LC_ALL", "C");
    output(&mut date).with_context(|| format!("SOURCE_DATE_EPOCH: {at} is not a time"))
}

/// The maintainer, by name and address.
pub(super) fn maintainer() -> Result<&'static str> {
    const CONTROL: &str = include_str!("../../../dist/debian/control");
    CONTROL
        .lines()
        .find_map(|line| line.strip_prefix("Maintainer: "))
        .context("no Maintainer in dist/debian/control")
}
