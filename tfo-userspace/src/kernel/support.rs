//! Whether this kernel and this process can do what the data path needs.

use std::{io, path::Path};

use aya::{maps::MapType, sys::is_map_supported};
use rustix::{
    fs::statfs,
    io::Errno,
    mount::{MountFlags, mount},
    thread::{CapabilitySet, capabilities},
};

/// Where the BPF file system is mounted.
pub const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: i64 = 0xcafe_4a11;
/// The kernel's own types.
pub const BTF: &str = "/sys/kernel/btf/vmlinux";

/// What is missing.
#[derive(Debug, thiserror::Error)]
pub enum SupportError {
    /// The process may not do it.
    #[error(
        "not permitted: tfo needs CAP_BPF, CAP_NET_ADMIN and CAP_PERFMON: run it as root, with sudo"
    )]
    Privilege,
    /// bpf(2) does not work.
    #[error("this kernel has no BPF ({0}): it needs CONFIG_BPF_SYSCALL and Linux 6.1 or later")]
    Bpf(io::Error),
    /// The kernel's types are not to be had.
    #[error("this kernel has no BTF ({BTF} is missing): it needs CONFIG_DEBUG_INFO_BTF")]
    Btf,
    /// The BPF file system cannot be mounted.
    #[error(
        "no BPF file system at {BPFFS}, and it cannot be mounted ({0}): `mount -t bpf bpf {BPFFS}` as root"
    )]
    Bpffs(io::Error),
}

/// Checks that the process may load programs and that the kernel can take them.
///
/// # Errors
///
/// [`SupportError`], naming the first thing that is missing.
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

/// Checks the process's capabilities.
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

/// The names of the capabilities that the process needs and does not have.
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

/// Whether the process may mount file systems.
pub fn may_mount() -> bool {
    effective().contains(CapabilitySet::SYS_ADMIN)
}

fn effective() -> CapabilitySet {
    capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective)
}

/// Mounts the BPF file system where it is not, as every BPF loader does.
fn bpffs() -> Result<(), SupportError> {
    if is_bpffs() {
        return Ok(());
    }
    match mount("bpf", BPFFS, "bpf", MountFlags::empty(), None) {
        Ok(()) => Ok(()),
        // Another process was quicker.
        Err(Errno::BUSY) if is_bpffs() => Ok(()),
        Err(error) => Err(SupportError::Bpffs(error.into())),
    }
}

/// Whether the BPF file system is mounted.
pub fn is_bpffs() -> bool {
    statfs(BPFFS).is_ok_and(|fs| fs.f_type == BPFFS_MAGIC)
}
