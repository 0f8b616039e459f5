//! Prerequisites: capabilities, bpf(2), BTF, the BPF file system.

use std::{io, path::Path};

use aya::{
    maps::MapType,
    programs::{ProgramError, ProgramType},
    sys::{is_map_supported, is_program_supported},
};
use rustix::{
    fs::{StatVfsMountFlags, statfs, statvfs},
    io::Errno,
    mount::{MountFlags, MountPropagationFlags, mount, mount_change},
    thread::{CapabilitySet, UnshareFlags, capabilities, unshare_unsafe},
};

use super::refusal;

/// Mount point of the BPF file system.
pub const BPFFS: &str = "/sys/fs/bpf";
const BPFFS_MAGIC: i64 = 0xcafe_4a11;
const SYSFS_MAGIC: i64 = 0x6265_6572;
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
    /// bpf(2) does not work: cause and remedy.
    #[error("{0}")]
    Bpf(String),
    /// The kernel has no BTF.
    #[error("this kernel has no BTF ({BTF} is missing): it needs CONFIG_DEBUG_INFO_BTF")]
    Btf,
    /// `/sys` is not mounted.
    #[error(
        "/sys is not mounted, and tfo reads the kernel's BTF ({BTF}) there: `mount -t sysfs sysfs /sys`"
    )]
    Sysfs,
    /// The BPF file system cannot be mounted.
    #[error(
        "no BPF file system at {BPFFS}, and it cannot be mounted ({error}): {remedy}",
        error = .0,
        remedy = mount_remedy(.0)
    )]
    Bpffs(io::Error),
    /// The BPF file system is mounted read-only.
    #[error(
        "{BPFFS} is mounted read-only, and tfo pins its maps there: `mount -o remount,rw {BPFFS}` (in a container, mount the host's writable)"
    )]
    ReadOnly,
}

/// Checks all prerequisites, and mounts the BPF file system where it is not mounted.
///
/// # Errors
///
/// [`SupportError`] for the first one that is missing.
pub fn check() -> Result<(), SupportError> {
    check_kernel()?;
    bpffs()?;
    if is_read_only() {
        return Err(SupportError::ReadOnly);
    }
    Ok(())
}

/// As [`check`], without the BPF file system: mounts nothing.
///
/// # Errors
///
/// [`SupportError`] for the first prerequisite that is missing.
pub fn check_kernel() -> Result<(), SupportError> {
    privileges()?;
    try_bpf().map_err(|error| SupportError::Bpf(refusal::of_bpf(&error)))?;
    if !Path::new(BTF).exists() {
        return Err(if is_sysfs() {
            SupportError::Btf
        } else {
            SupportError::Sysfs
        });
    }
    Ok(())
}

/// Makes a map of one entry and loads a program of two instructions, which nobody holds.
///
/// # Errors
///
/// Those of bpf(2).
pub fn try_bpf() -> io::Result<()> {
    is_map_supported(MapType::Array).map_err(|error| error.io_error)?;
    match is_program_supported(ProgramType::Xdp) {
        Ok(true) => Ok(()),
        Ok(false) => Err(Errno::INVAL.into()),
        Err(ProgramError::SyscallError(error)) => Err(error.io_error),
        Err(error) => Err(io::Error::other(error)),
    }
}

fn mount_remedy(error: &io::Error) -> String {
    let command = format!("`mount -t bpf -o mode=0700 bpf {BPFFS}`");
    match error.kind() {
        io::ErrorKind::NotFound => {
            format!("mount sysfs first (`mount -t sysfs sysfs /sys`), then {command} as root")
        }
        io::ErrorKind::PermissionDenied => {
            format!(
                "{command} as root on the host; a container gets the host's with -v {BPFFS}:{BPFFS}"
            )
        }
        _ => format!("{command} as root"),
    }
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

const NEEDED: [(&str, CapabilitySet); 3] = [
    ("CAP_BPF", CapabilitySet::BPF),
    ("CAP_NET_ADMIN", CapabilitySet::NET_ADMIN),
    ("CAP_PERFMON", CapabilitySet::PERFMON),
];
/// The further capabilities for [`own_bpffs`], network namespaces and packet sockets.
const NEEDED_TO_ISOLATE: [(&str, CapabilitySet); 2] = [
    ("CAP_SYS_ADMIN", CapabilitySet::SYS_ADMIN),
    ("CAP_NET_RAW", CapabilitySet::NET_RAW),
];

/// The names of the needed capabilities that the process lacks.
pub fn missing_capabilities() -> Vec<&'static str> {
    missing(NEEDED)
}

/// As [`missing_capabilities`], for a process that makes namespaces of its own, too.
pub fn missing_to_isolate() -> Vec<&'static str> {
    missing(NEEDED.into_iter().chain(NEEDED_TO_ISOLATE))
}

fn missing(needed: impl IntoIterator<Item = (&'static str, CapabilitySet)>) -> Vec<&'static str> {
    let has = effective();
    let lacks = needed.into_iter().filter(|(_, each)| !has.contains(*each));
    lacks.map(|(name, _)| name).collect()
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

/// Gives the calling thread, and those that it starts from then on, a BPF file system that no other process sees: the kernel
/// removes it, and what is pinned there, with the last of them.
///
/// # Errors
///
/// Those of unshare(2) and mount(2).
pub fn own_bpffs() -> io::Result<()> {
    // SAFETY: the descriptors stay shared; threads have a working directory of their own from now on, which is the same.
    unsafe { unshare_unsafe(UnshareFlags::NEWNS) }?;
    // Else the mount would appear to the others, too. Where this process is in a chroot, `/` may be no mount point; the parent of
    // the new mount is then below it.
    let private = MountPropagationFlags::PRIVATE | MountPropagationFlags::REC;
    let of = |place| mount_change(place, private);
    of("/").or_else(|_| of("/sys")).or_else(|_| of(BPFFS))?;
    mount("bpf", BPFFS, "bpf", MountFlags::empty(), c"mode=0700")?;
    Ok(())
}

/// A sysfs is mounted at `/sys`.
pub fn is_sysfs() -> bool {
    statfs("/sys").is_ok_and(|fs| fs.f_type == SYSFS_MAGIC)
}

/// The file system at [`BPFFS`] is mounted read-only.
pub fn is_read_only() -> bool {
    statvfs(BPFFS).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// The BPF file system is mounted at [`BPFFS`].
pub fn is_bpffs() -> bool {
    statfs(BPFFS).is_ok_and(|fs| fs.f_type == BPFFS_MAGIC)
}
