//! The files of a guest of another architecture: a small Debian of packages that are unpacked and not installed.

use std::{
    fs,
    path::{Path, PathBuf},
};

use anyhow::Result;

use crate::packages::Packages;

/// The packages of what the suites and the package checks start, and those of every Debian.
const PACKAGES: [&str; 20] = [
    "?essential",
    "bpftool",
    "busybox-static",
    "ca-certificates",
    "curl",
    "etcd-client",
    "etcd-server",
    "ethtool",
    "iproute2",
    "kmod",
    "mount",
    "nftables",
    "nginx-light",
    "openssl",
    "procps",
    "python3",
    "systemd",
    "tshark",
    "util-linux",
    "xdp-tools",
];

/// Files that the packages' scripts would make.
const COPIES: [(&str, &str); 3] = [
    ("usr/bin/mawk", "usr/bin/awk"),
    ("usr/share/base-passwd/group.master", "etc/group"),
    ("usr/share/base-passwd/passwd.master", "etc/passwd"),
];

/// The system, unpacked below `folder` unless it is there already, of these packages.
pub(super) fn make(packages: &Packages, folder: &Path) -> Result<PathBuf> {
    let root = folder.join("system");
    let list = folder.join("system.packages");
    let wanted = PACKAGES.join("\n");
    if root.exists() && fs::read_to_string(&list).is_ok_and(|had| had == wanted) {
        return Ok(root);
    }
    let _ = fs::remove_dir_all(&root);
    println!("tfo: vm: getting a Debian to run the suites in");
    // Renamed when complete.
    let fresh = folder.join("fresh");
    let _ = fs::remove_dir_all(&fresh);
    fs::create_dir_all(&fresh)?;
    packages.unpack(&PACKAGES, &fresh)?;
    for (from, to) in COPIES {
        fs::copy(fresh.join(from), fresh.join(to))?;
    }
    // A file, where the system runs without devices.
    fs::write(fresh.join("dev/null"), "")?;
    fs::write(
        fresh.join("etc/hosts"),
        "127.0.0.1 localhost\n::1 localhost\n",
    )?;
    fs::rename(&fresh, &root)?;
    fs::write(&list, wanted)?;
    Ok(root)
}
