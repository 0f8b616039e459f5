//! The bills of materials: the crates in `tfo` and in the eBPF object, with versions, licences and checksums, as
//! `CycloneDX` has it.

use std::{
    env::consts::ARCH,
    fs,
    path::{Path, PathBuf},
};

use anyhow::{Context as _, Result};

use crate::{
    command::{cargo, repository, succeed},
    setup,
};

use super::origin::{VERSION, epoch};

/// The workspace's members.
const MEMBERS: [&str; 8] = [
    "tests/bench",
    "tests/suites",
    "tests/testbed",
    "tfo-common",
    "tfo-ebpf",
    "tfo-toolchain",
    "tfo-userspace",
    "xtask",
];

/// The name that cargo-cyclonedx gives its file, beside the manifest of the package.
const NAME: &str = "tfo-sbom";

/// The members with a bill, and its name in a release.
const BILLS: [(&str, &str); 2] = [("tfo-userspace", "tfo"), ("tfo-ebpf", "tfo-ebpf")];

/// `tfo-VERSION.cdx.json` and `tfo-ebpf-VERSION.cdx.json`, in `folder`.
pub(super) fn make(folder: &Path) -> Result<Vec<PathBuf>> {
    setup::cargo_cyclonedx()?;
    let mut list = cargo();
    list.args(["cyclonedx", "--format", "json", "--quiet"]);
    // What is in the program: neither tools of its build nor crates of other systems.
    list.args(["--no-build-deps", "--override-filename", NAME]);
    list.args(["--target", &format!("{ARCH}-unknown-linux-gnu")]);
    list.args(["--manifest-path", "tfo-userspace/Cargo.toml"]);
    // Fixes the time in it, and leaves out its random serial number.
    let listed = succeed(list.env("SOURCE_DATE_EPOCH", epoch()?));
    let kept = if listed.is_ok() {
        keep(folder)
    } else {
        Ok(Vec::new())
    };
    // It writes one beside each manifest of the workspace.
    for member in MEMBERS {
        let made = written(member);
        if made.exists() {
            fs::remove_file(made)?;
        }
    }
    listed?;
    kept
}

/// Returns the path at which the bill of a member is written.
fn written(member: &str) -> PathBuf {
    repository().join(member).join(format!("{NAME}.json"))
}

/// Copies the bills to `folder`.
fn keep(folder: &Path) -> Result<Vec<PathBuf>> {
    // Paths of this machine are no part of them.
    let here = repository().display().to_string();
    let keep = |(member, name): (&str, &str)| -> Result<PathBuf> {
        let text = fs::read_to_string(written(member))
            .with_context(|| format!("cargo cyclonedx wrote nothing for {member}"))?;
        let bill = folder.join(format!("{name}-{VERSION}.cdx.json"));
        fs::write(&bill, text.replace(&here, "."))?;
        Ok(bill)
    };
    BILLS.into_iter().map(keep).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn all_members_are_known() {
        let text = fs::read_to_string(repository().join("Cargo.toml")).unwrap();
        let line = text
            .lines()
            .find_map(|line| line.strip_prefix("members = "));
        let mut members: Vec<_> = line.unwrap().split('"').skip(1).step_by(2).collect();
        members.sort_unstable();
        assert_eq!(members, MEMBERS);
    }
}
