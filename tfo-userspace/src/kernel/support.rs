//! Prerequisites: capabilities, bpf(2), BTF, the BPF file system.

use std::{io, path::Path};

use aya::{maps::MapType, sys::is_map_supported};
use rustix::{
    fs::statfs,
    io::Errno,
    mount::{MountFlags, mount},
    thread::{CapabilitySet, capabilities},
};

/// Mount point of the BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: i64 = 0xcafe_4a11;
/// The kernel's BTF.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// A prerequisite is missing.
#[derive(Debug, thiserror::Error)]
pub enum SupportError {
    /// The process lacks a capability.
    #[error(
        "not permitted: tfo needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run it as root, with sudo"
    )]
    Privilege,
    /// bpf(2) does not work.
    #[error("this kernel has no BPF ({0}): it needs CONFIG_BPF_SYSCALL and Linux 6.1 or later")]
    Bpf(io::Error),
    /// The kernel has no BTF.
    #[error("this kernel has no BTF ({BTF} is missing): it needs CONFIG_DEBUG_INFO_BTF")]
    Btf,
    /// The BPF file system cannot be mounted.
    #[error(
        "no BPF file system at {BPFFS}, and it cannot be mounted ({0}): `mount -t bpf -o mode=0700 bpf {BPFFS}` as root"
    )]
    Bpffs(io::Error),
}

/// Checks all prerequisites, and mounts the BPF file system where it is not mounted.
///
/// # Errors
///
/// [`SupportError`] for the first one that is missing.
pub fn check() -> Result<(), SupportError> {
    privileges()?;
    if let Err(error) = is_map_supported(MapType::Array) {
        return Err(SupportError::Bpf(error.io_error));
    }
    if !Path::new(BTF).exists() {
        return Err(SupportError::Btf);
    }
    bpffs()
}

/// Checks the capabilities of the process.
///
/// # Errors
///
/// [`SupportError::Privilege`].
pub fn privileges() -> Result<(), SupportError> {
    if missing_capabilities().is_empty() {
        Ok(())
    } else {
        Err(SupportError::Privilege)
    }
}

/// The names of the needed capabilities that the process lacks.
pub fn missing_capabilities() -> Vec<&'static str> {
    let has = effective();
    let needed = [
        ("CAP_BPF", CapabilitySet::BPF),
        ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
        ("CAP_PERFMON", CapabilitySet::PERFMON),
    ];
    let missing = needed.into_iter().filter(|(_, each)| !has.contains(*each));
    missing.map(|(name, _)| name).collect()
}

/// The process has `CAP_SYS_ADMIN`, and so may mount file systems.
pub fn may_mount() -> bool {
    effective().contains(CapabilitySet::SYS_ADMIN)
}

fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Mounts the BPF file system, as other BPF loaders do.
fn bpffs() -> Result<(), SupportError> {
    if is_bpffs() {
        return Ok(());
    }
    // By default anyone may make files in it (mode 1777).
    match mount("bpf", BPFFS, "bpf", MountFlags::empty(), c"mode=0700") {
        Ok(()) => Ok(()),
        // Another process mounted it.
        Err(Errno::BUSY) if is_bpffs() => Ok(()),
        Err(error) => Err(SupportError::Bpffs(error.into())),
    }
}

/// The BPF file system is mounted at [`BPFFS`].
pub fn is_bpffs() -> bool {
    statfs(BPFFS).is_ok_and(|fs| fs.f_type == BPFFS_MAGIC)
}
