//! What outlives what is pinned: a BPF file system ends with the last mount namespace that has it, and what is pinned there
//! with it.

use std::{
    collections::BTreeSet,
    fmt, fs,
    os::unix::{fs::MetadataExt as _, process::parent_id},
    path::Path,
    process,
};

use rustix::fs::{major, minor};

use super::{
    netns::{self, NetnsId},
    support::{BPFFS, is_bpffs},
};

/// Programs that run another one as somebody else, and end with it.
const WRAPPERS: [&str; 3] = ["sudo", "doas", "su"];
/// The inode of the first PID namespace: `PID_NS_INIT_INO` of `<linux/nsfs.h>`.
const FIRST_PID_NAMESPACE: u64 = 0xefff_fffc;

/// What is pinned by this process does not stay on the host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ShortLived {
    /// The name or the file of the network namespace, where it is not the host's.
    netns: Option<String>,
    ends_with: EndsWith,
}

/// What the BPF file system ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum EndsWith {
    /// This mount namespace, which neither process 1 nor the process that started this one is in.
    OwnMountNamespace,
    /// This mount namespace, which process 1 is not in.
    MountNamespace,
    /// This container, whose process 1 this process is.
    Process,
    /// This container.
    Container,
}

impl ShortLived {
    /// Compares the BPF file system with the mounts of process 1. `None` where it stays, or that cannot be known.
    pub fn find() -> Option<Self> {
        let ends_with = ends_with()?;
        Some(Self {
            netns: netns::name().or_else(netns_of_parent),
            ends_with,
        })
    }

    /// It is gone as soon as this process ends.
    pub fn ends_with_process(&self) -> bool {
        matches!(
            self.ends_with,
            EndsWith::OwnMountNamespace | EndsWith::Process
        )
    }

    /// How to run `tfo` with the arguments `words`, so that what it pins stays, and what others pinned is seen.
    pub fn remedy(&self, words: &str) -> String {
        match (&self.netns, self.ends_with) {
            (_, EndsWith::Process | EndsWith::Container) => {
                format!("mount the host's {BPFFS} into the container (docker: -v {BPFFS}:{BPFFS})")
            }
            (Some(netns), EndsWith::OwnMountNamespace | EndsWith::MountNamespace) => {
                format!("`tfo --netns {netns} {words}`, outside of it")
            }
            (None, EndsWith::OwnMountNamespace | EndsWith::MountNamespace) => {
                format!("`tfo {words}`, outside of it")
            }
        }
    }
}

impl fmt::Display for ShortLived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self.ends_with {
            EndsWith::OwnMountNamespace | EndsWith::MountNamespace => {
                "this process does not have the host's BPF file system, but is in a mount namespace of its own, as `ip netns exec` \
                 makes one: what is pinned in it ends with it"
            }
            EndsWith::Process | EndsWith::Container => {
                "this container does not have the host's BPF file system: what is pinned in it ends with it"
            }
        })
    }
}

fn ends_with() -> Option<EndsWith> {
    let is_mounted = is_bpffs();
    // Else it is to be mounted by this process, in its mount namespace.
    if !is_mounted && process::id() == 1 {
        return Some(EndsWith::Process);
    }
    let mounts_of = |process: u32| fs::read_to_string(format!("/proc/{process}/mountinfo")).ok();
    let dev = fs::metadata(BPFFS).ok().map(|dir| dir.dev());
    let device = dev.map(|dev| format!("{}:{}", major(dev), minor(dev)));
    let own = mounts_of(process::id())?;
    let is_shared_with = |process| {
        let mounts = mounts_of(process)?;
        Some(if is_mounted {
            has_device(&mounts, device.as_deref()?)
        } else {
            has_same_mount(&own, &mounts)
        })
    };
    if !is_shared_with(1)? {
        return Some(match is_shared_with(starter()) {
            Some(true) => EndsWith::MountNamespace,
            _ => EndsWith::OwnMountNamespace,
        });
    }
    let pids = fs::metadata("/proc/self/ns/pid").ok()?.ino();
    (!is_mounted && pids != FIRST_PID_NAMESPACE).then_some(EndsWith::Container)
}

/// The process that started this one, and outlives it.
fn starter() -> u32 {
    let mut process = parent_id();
    while let Ok(comm) = fs::read_to_string(format!("/proc/{process}/comm"))
        && WRAPPERS.contains(&comm.trim_end())
        && let Some(parent) = parent_of(process)
    {
        process = parent;
    }
    process
}

/// `proc_pid_stat(5)`: the second field behind the command's name, which may have spaces and parentheses.
fn parent_of(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit_once(')')?
        .1
        .split_whitespace()
        .nth(1)?
        .parse()
        .ok()
}

/// The file of the network namespace, by the process that started this one.
fn netns_of_parent() -> Option<String> {
    if netns::is_that_of_init() == Some(true) {
        return None;
    }
    let path = format!("/proc/{}/ns/net", starter());
    let own = NetnsId::current().ok()?;
    (own.at(Path::new(&path)).ok()? == Some(own)).then_some(path)
}

/// Two namespaces have no mount in common: the kernel numbers those of all.
fn has_same_mount(mounts: &str, others: &str) -> bool {
    let ids = |mounts: &'_ str| -> BTreeSet<String> {
        let ids = mounts.lines().filter_map(|line| line.split(' ').next());
        ids.map(str::to_owned).collect()
    };
    !ids(mounts).is_disjoint(&ids(others))
}

/// A line of mountinfo, `proc_pid_mountinfo(5)`, has the device in its third field.
fn has_device(mounts: &str, device: &str) -> bool {
    let mut lines = mounts.lines();
    lines.any(|line| line.split(' ').nth(2) == Some(device))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mount_is_known_by_its_device() {
        let mounts = "\
            71 23 0:39 / /sys/fs/bpf rw,relatime shared:9 - bpf bpf rw,mode=700\n\
            72 23 0:4 / /proc rw,nosuid - proc proc rw\n";
        assert!(has_device(mounts, "0:39"));
        assert!(!has_device(mounts, "0:3"));
        assert!(!has_device("", "0:39"));
        assert!(has_same_mount(mounts, "72 1 0:4 / /proc rw - proc proc rw"));
        assert!(!has_same_mount(
            mounts,
            "2 71 0:39 / /sys/fs/bpf rw - bpf bpf rw"
        ));
    }

    #[test]
    fn the_process_that_started_this_one_is_found() {
        assert_eq!(parent_of(process::id()), Some(parent_id()));
        assert_eq!(parent_of(u32::MAX), None);
    }

    #[test]
    fn each_end_has_a_remedy_of_its_own() {
        let told = |netns: Option<&str>, ends_with| {
            let found = ShortLived {
                netns: netns.map(str::to_owned),
                ends_with,
            };
            (found.remedy("attach eth0"), found.ends_with_process())
        };
        for (ends_with, with_process) in [
            (EndsWith::OwnMountNamespace, true),
            (EndsWith::MountNamespace, false),
        ] {
            let (named, ends) = told(Some("blue"), ends_with);
            assert!(named.starts_with("`tfo --netns blue attach eth0`"));
            assert_eq!(ends, with_process);
        }
        let (unnamed, _) = told(None, EndsWith::MountNamespace);
        assert!(unnamed.starts_with("`tfo attach eth0`"), "{unnamed}");
        let (container, ends) = told(Some("blue"), EndsWith::Container);
        assert!(container.contains("-v /sys/fs/bpf") && !ends);
        assert!(told(None, EndsWith::Process).1);
    }
}
