//! `tfo` in a mount namespace of its own, and behind a seccomp filter.

use std::{os::unix::process::CommandExt as _, process::Command};

use anyhow::Result;
use seccompiler::{
    BpfProgram, SeccompAction, SeccompCmpArgLen, SeccompCmpOp, SeccompCondition, SeccompFilter,
    SeccompRule,
};
use tfo_testbed::{
    netns::Netns,
    process::{self, Output},
    tfo::{self, LIMIT},
};

/// In a mount namespace of its own: no sysctl can be written.
pub(super) const READ_ONLY_SYSCTLS: &str =
    "mount --bind /proc/sys /proc/sys; mount -o remount,bind,ro /proc/sys";

/// Has a mount namespace of its own pass for the host's: the mounts of process 1 are those of this shell.
pub(super) const AS_THE_HOSTS: &str = "mount --bind /proc/$$/mountinfo /proc/1/mountinfo";

/// Runs `tfo` in a new mount namespace, after the shell command `before`.
pub(super) fn run_after(before: &str, netns: &Netns, arguments: &[&str]) -> Result<Output> {
    process::output(&mut after(before, netns, arguments), LIMIT)
}

/// The command that [`run_after`] runs.
pub(super) fn after(before: &str, netns: &Netns, arguments: &[&str]) -> Command {
    let mut command = Command::new("unshare");
    command
        .args(["--mount", "sh", "-ec"])
        .arg(format!("{before}\nexec \"$0\" \"$@\""))
        .arg(tfo::binary())
        .args(arguments)
        .args(["--netns", netns.name()]);
    command
}

/// A system call that a filter refuses.
#[derive(Clone, Copy)]
pub(super) enum Refused {
    Call(i64),
    /// Where its first argument is this number.
    Command(i64, u64),
}

impl Refused {
    fn rules(self) -> Result<(i64, Vec<SeccompRule>)> {
        Ok(match self {
            Self::Call(call) => (call, Vec::new()),
            Self::Command(call, number) => {
                let (len, is) = (SeccompCmpArgLen::Dword, SeccompCmpOp::Eq);
                let first = SeccompCondition::new(0, len, is, number)?;
                (call, vec![SeccompRule::new(vec![first])?])
            }
        })
    }
}

/// Makes these system calls fail with this error.
pub(super) fn with_errno(command: &mut Command, refused: &[Refused], errno: i32) -> Result<()> {
    let rules = refused.iter().map(|refused| refused.rules());
    let filter = SeccompFilter::new(
        rules.collect::<Result<_>>()?,
        SeccompAction::Allow,
        SeccompAction::Errno(errno.cast_unsigned()),
        std::env::consts::ARCH.try_into()?,
    )?;
    let filter: BpfProgram = filter.try_into()?;
    // SAFETY: between fork and exec, the closure makes two system calls and allocates no memory.
    unsafe {
        command.pre_exec(move || {
            seccompiler::apply_filter(&filter).map_err(|_| std::io::ErrorKind::Other.into())
        });
    }
    Ok(())
}
