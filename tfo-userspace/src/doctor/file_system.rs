//! The BPF file system: whether what attaching does there can be done, and lasts.

use std::{fs, os::unix::fs::MetadataExt as _};

use super::finding::{Finding, Verdict, parts};
use crate::{
    datapath::{DatapathError, UnsafePins, check_pins, try_mount, try_pins},
    kernel::{
        mounts::ShortLived,
        support::{self, BPFFS, SupportError},
    },
};

/// Facts about the BPF file system.
#[derive(Clone, Debug)]
pub(super) struct FileSystemFacts {
    /// It is mounted.
    mounted: bool,
    /// This process may mount file systems.
    may_mount: bool,
    /// It is mounted read-only.
    read_only: bool,
    /// Its permission bits.
    mode: Option<u32>,
    /// Why nothing can be pinned there, or why it cannot be mounted.
    refused: Option<String>,
    /// What is pinned there goes before the host does.
    short_lived: Option<ShortLived>,
    /// Another user can change what is pinned.
    unsafe_pins: Option<UnsafePins>,
}

impl FileSystemFacts {
    /// `can_try`: this process may do what attaching does.
    pub(super) fn read(can_try: bool) -> Self {
        Self {
            mounted: support::is_bpffs(),
            may_mount: support::may_mount(),
            read_only: support::is_read_only(),
            mode: fs::metadata(BPFFS).ok().map(|dir| dir.mode() & 0o7777),
            refused: can_try.then(try_file_system).flatten(),
            short_lived: ShortLived::find(),
            unsafe_pins: match check_pins() {
                Err(DatapathError::Unsafe(pins)) => Some(pins),
                _ => None,
            },
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![self.file_system()];
        findings.extend(self.unsafe_pins.as_ref().map(|pins| {
            let found = format!(
                "{}: {}: tfo refuses to use it",
                pins.path.display(),
                pins.cause
            );
            Finding::problem("pins", found).remedy(&pins.remedy)
        }));
        findings
    }

    fn file_system(&self) -> Finding {
        const CHECK: &str = "bpffs";
        let mount = format!("mount -t bpf -o mode=0700 bpf {BPFFS}");
        if self.mounted && self.read_only {
            let found = format!("{BPFFS} is mounted read-only: tfo cannot pin its maps");
            return Finding::problem(CHECK, found).remedy(format!(
                "mount -o remount,rw {BPFFS}; in a container, mount the host's writable"
            ));
        }
        if let Some(error) = &self.refused {
            let (found, remedy) = parts(error);
            return Finding::problem(CHECK, found).remedy(remedy);
        }
        if let Some(found) = &self.short_lived {
            let verdict = if found.ends_with_process() {
                Verdict::Problem
            } else {
                Verdict::Warning
            };
            let finding = Finding::new(CHECK, verdict, found.to_string());
            return finding.remedy(found.remedy("attach IFACE"));
        }
        if let Some(mode) = self.mode.filter(|mode| self.mounted && mode & 0o002 != 0) {
            let found = format!(
                "{BPFFS} is mounted with mode {mode:04o}: whoever makes {BPFFS}/tfo before tfo does keeps it from attaching"
            );
            Finding::note(CHECK, found).remedy(format!("chmod 0700 {BPFFS}"))
        } else if self.mounted {
            Finding::ok(CHECK, format!("{BPFFS} is mounted, and takes pins"))
        } else if self.may_mount {
            let found = format!("{BPFFS} is not mounted: `tfo attach` will mount it");
            Finding::note(CHECK, found).remedy(mount)
        } else {
            let found = format!("{BPFFS} is not mounted, and this process may not mount it");
            Finding::warning(CHECK, found)
                .remedy(format!("{mount}, as root; systemd mounts it at boot"))
        }
    }
}

/// Does what attaching does in the BPF file system, or with one that nobody else sees where there is none. Gives what is
/// refused.
fn try_file_system() -> Option<String> {
    if support::is_bpffs() {
        return try_pins().err().map(|error| error.to_string());
    }
    if !support::may_mount() {
        return None;
    }
    let refused = try_mount().err().map(SupportError::Bpffs);
    refused.map(|error| error.to_string())
}

#[cfg(test)]
impl FileSystemFacts {
    pub(super) const fn healthy() -> Self {
        Self {
            mounted: true,
            may_mount: true,
            read_only: false,
            mode: Some(0o700),
            refused: None,
            short_lived: None,
            unsafe_pins: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Verdict::{Note, Ok as Fine, Problem, Warning},
        finding::testing::expect,
    };

    fn with(change: impl FnOnce(&mut FileSystemFacts)) -> Vec<Finding> {
        let mut facts = FileSystemFacts::healthy();
        change(&mut facts);
        facts.judge()
    }

    #[test]
    fn each_lack_is_named() {
        const CHECK: &str = "bpffs";
        expect(&with(|_| ()), CHECK, Fine, "takes pins");
        let absent = with(|facts| facts.mounted = false);
        expect(&absent, CHECK, Note, "will mount it");
        let no_mount = with(|facts| (facts.mounted, facts.may_mount) = (false, false));
        expect(&no_mount, CHECK, Warning, "may not");
        let read_only = with(|facts| facts.read_only = true);
        expect(&read_only, CHECK, Problem, "read-only");
        let refused = with(|facts| facts.refused = Some("cannot pin: full: free memory".into()));
        expect(&refused, CHECK, Problem, "cannot pin: full");
        let open = with(|facts| facts.mode = Some(0o1777));
        expect(&open, CHECK, Note, "mode 1777");
        let taken = with(|facts| {
            facts.unsafe_pins = Some(UnsafePins {
                path: "/sys/fs/bpf/tfo".into(),
                cause: "user 65534 owns it".into(),
                remedy: "rm -r /sys/fs/bpf/tfo".into(),
            });
        });
        expect(&taken, "pins", Problem, "user 65534");
    }
}
