//! Why the kernel, or what stands in front of it, refuses bpf(2) and mounts: seccomp, user namespaces, security
//! modules, lockdown, limits.

use std::{fs, io};

use rustix::{
    io::Errno,
    process::{Resource, getrlimit},
    thread::{CapabilitySet, capabilities},
};

/// The confinement of this process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Confinement {
    /// In a user namespace other than the first.
    pub user_namespace: bool,
    /// A seccomp filter is in force.
    pub seccomp: bool,
    /// Lockdown in the mode `confidentiality`, in which BPF may not read the kernel's memory.
    pub lockdown: bool,
}

impl Confinement {
    /// Reads `/proc` and securityfs. What cannot be read is taken for absent.
    pub fn read() -> Self {
        let read = |path| fs::read_to_string(path).unwrap_or_default();
        Self::parse(
            &read("/proc/self/uid_map"),
            &read("/proc/self/status"),
            &read("/sys/kernel/security/lockdown"),
        )
    }

    fn parse(uid_map: &str, status: &str, lockdown: &str) -> Self {
        let whole = ["0", "0", "4294967295"];
        Self {
            user_namespace: !uid_map.is_empty() && !uid_map.split_whitespace().eq(whole),
            seccomp: status
                .lines()
                .filter_map(|line| line.strip_prefix("Seccomp:"))
                .any(|mode| mode.trim() == "2"),
            lockdown: lockdown.contains("[confidentiality]"),
        }
    }

    /// Cause and remedy of bpf(2) that fails with EPERM although the process has the capabilities.
    fn of_bpf(self) -> &'static str {
        match self {
            Self {
                user_namespace: true,
                ..
            } => {
                "this process is in a user namespace, whose capabilities do not count for bpf(2): run tfo in the host's \
                 (a container without userns-remap, and not a rootless one)"
            }
            Self { seccomp: true, .. } => {
                "a seccomp filter is in force, and probably refuses it: allow bpf(2) in the unit's SystemCallFilter=, or give \
                 the container a profile that allows it, such as tfo's (`--security-opt seccomp=seccomp.json`): podman's own \
                 in Debian 12 allows it with --cap-add SYS_ADMIN alone"
            }
            Self { lockdown: true, .. } => {
                "the kernel is locked down in the mode confidentiality: boot with lockdown=integrity"
            }
            _ => {
                "a security module (SELinux, AppArmor, BPF LSM) probably refuses it: the audit log (`ausearch -m avc`, \
                 `dmesg`) names the rule to change"
            }
        }
    }
}

/// Cause and remedy of an error of bpf(2).
pub fn of_bpf(error: &io::Error) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::NOSYS) => "bpf(2) is missing: there is no BPF in a kernel without CONFIG_BPF_SYSCALL, and a \
             container's seccomp profile may hide it: use Linux 6.1 or later, or allow bpf(2) in the profile"
            .to_owned(),
        Some(Errno::PERM | Errno::ACCESS) => {
            format!("bpf(2) is refused ({error}): {}", Confinement::read().of_bpf())
        }
        Some(Errno::MFILE | Errno::NFILE) => of_files(),
        Some(Errno::NOMEM) => {
            format!("bpf(2) has no memory ({error}): raise the memory limit of the unit or of the container")
        }
        _ => format!("bpf(2) does not work: {error}: use Linux 6.1 or later with CONFIG_BPF_SYSCALL"),
    }
}

/// Cause and remedy of flock(2) that fails; `directory` has the file.
pub fn of_flock(error: &io::Error, directory: &str) -> String {
    match error.raw_os_error().map(Errno::from_raw_os_error) {
        Some(Errno::PERM | Errno::ACCESS) => {
            "a seccomp filter or a security module forbids flock(2): allow it in the unit's SystemCallFilter=, or give the \
             container a profile that allows it, such as tfo's (`--security-opt seccomp=seccomp.json`)"
                .to_owned()
        }
        _ => format!("mount a file system at {directory} that has flock(2)"),
    }
}

/// Cause and remedy of setns(2) that fails with EPERM.
pub fn of_setns() -> &'static str {
    let sets = capabilities(None);
    if sets.is_ok_and(|sets| sets.effective.contains(CapabilitySet::SYS_ADMIN))
        && Confinement::read().seccomp
    {
        "a seccomp filter is in force, and probably forbids setns(2): allow it in the unit's SystemCallFilter=, or give the \
         container a profile that allows it, such as tfo's (`--security-opt seccomp=seccomp.json`)"
    } else {
        "that takes CAP_SYS_ADMIN: run tfo as root"
    }
}

/// The text of an error, with cause and remedy where it says that a process has too many open files.
pub fn with_limit(text: String) -> String {
    let of_limit = Errno::MFILE.raw_os_error();
    if text.contains(&format!("(os error {of_limit})")) && !text.contains("ulimit") {
        format!("{text}: {}", of_files())
    } else {
        text
    }
}

/// Cause and remedy where a process has too many open files.
pub fn of_files() -> String {
    let limit = getrlimit(Resource::Nofile).current;
    let limit = limit.map_or("the system's".to_owned(), |limit| format!("limit {limit}"));
    format!(
        "too many open files ({limit}): raise it with `ulimit -n 1024`, or LimitNOFILE= in the unit"
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_confinement_has_a_remedy_of_its_own() {
        let whole = "         0          0 4294967295\n";
        let free = Confinement::parse(whole, "Name:\ttfo\nSeccomp:\t0\n", "none [integrity]\n");
        assert_eq!(free, Confinement::default());
        assert_eq!(Confinement::parse("", "", ""), Confinement::default());
        assert!(free.of_bpf().contains("security module"));
        let told =
            |uid_map, status, lockdown| Confinement::parse(uid_map, status, lockdown).of_bpf();
        assert!(told("0 100000 65536\n", "Seccomp:\t2\n", "").contains("user namespace"));
        let filtered = told(whole, "Seccomp:\t2\n", "");
        assert!(filtered.contains("--security-opt seccomp=") && filtered.contains("SYS_ADMIN"));
        assert!(told(whole, "", "none integrity [confidentiality]").contains("lockdown=integrity"));
    }

    #[test]
    fn errors_of_flock_differ() {
        let told = |errno: Errno| of_flock(&errno.into(), "/run/tfo");
        assert!(told(Errno::PERM).contains("seccomp=seccomp.json"));
        assert_eq!(
            told(Errno::NOLCK),
            "mount a file system at /run/tfo that has flock(2)"
        );
    }

    #[test]
    fn the_limit_of_open_files_is_told_once() {
        let told = with_limit(format!("netlink: {}", io::Error::from(Errno::MFILE)));
        assert!(told.starts_with("netlink: ") && told.contains("ulimit -n"));
        assert_eq!(with_limit(told.clone()), told);
        assert_eq!(with_limit("netlink".to_owned()), "netlink");
    }

    #[test]
    fn errors_of_bpf_differ() {
        let told = |errno: Errno| of_bpf(&errno.into());
        assert!(told(Errno::NOSYS).contains("CONFIG_BPF_SYSCALL"));
        assert!(told(Errno::PERM).starts_with("bpf(2) is refused"));
        assert!(told(Errno::MFILE).contains("ulimit -n"));
        assert!(told(Errno::NOMEM).contains("memory limit"));
        assert!(told(Errno::INVAL).contains("does not work"));
    }
}
