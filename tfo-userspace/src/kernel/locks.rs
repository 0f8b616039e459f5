//! The process that holds a lock on a file: `/proc/locks`, `proc_locks(5)`.

use std::{fmt, fs, os::unix::fs::MetadataExt as _};

use rustix::fs::{major, minor};

/// Characters of a command that are shown.
const COMMAND_LEN: usize = 80;

/// A process that holds a lock.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LockHolder {
    /// `None` for a process of another PID namespace, which the kernel does not show.
    process: Option<(u32, String)>,
}

impl LockHolder {
    /// The holder of a flock(2) lock on `file`.
    pub fn of(file: &fs::File) -> Self {
        let pid = file.metadata().ok().and_then(|file| {
            let dev = file.dev();
            let place = format!("{:02x}:{:02x}:{}", major(dev), minor(dev), file.ino());
            holder(&fs::read_to_string("/proc/locks").ok()?, &place)
        });
        Self {
            process: pid.map(|pid| (pid, command(pid))),
        }
    }
}

impl fmt::Display for LockHolder {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.process {
            Some((pid, command)) => write!(f, "process {pid} ({command})"),
            None => f.write_str("a process that /proc/locks does not show"),
        }
    }
}

/// The process with a flock(2) lock on the file at `place`: device and inode as in `/proc/locks`.
fn holder(locks: &str, place: &str) -> Option<u32> {
    locks.lines().find_map(|line| {
        // A process that waits for the lock has an arrow as its second field.
        let mut fields = line.split_whitespace().skip(1);
        let is_flock = fields.next() == Some("FLOCK");
        let pid = fields.nth(2)?;
        let found = is_flock && fields.next() == Some(place);
        found.then(|| pid.parse().ok()).flatten()
    })
}

fn command(pid: u32) -> String {
    let read = |file: &str| fs::read_to_string(format!("/proc/{pid}/{file}")).unwrap_or_default();
    // A kernel thread has no command line; another user's process may be hidden.
    let text = [read("cmdline"), read("comm"), "command unknown".to_owned()];
    let text = text.into_iter().find(|text| !text.is_empty());
    let text = text.unwrap_or_default().replace('\0', " ");
    let shown = text.trim().chars().take(COMMAND_LEN);
    shown
        .map(|it| if it.is_control() { '?' } else { it })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_holder_is_found_by_device_and_inode() {
        let locks = "\
            1: FLOCK  ADVISORY  WRITE 41 00:1b:7 0 EOF\n\
            1: -> FLOCK  ADVISORY  WRITE 42 00:1b:8 0 EOF\n\
            2: POSIX  ADVISORY  WRITE 43 00:1b:8 0 EOF\n\
            3: FLOCK  ADVISORY  READ  44 00:1b:8 0 EOF\n";
        assert_eq!(holder(locks, "00:1b:7"), Some(41));
        assert_eq!(holder(locks, "00:1b:8"), Some(44));
        assert_eq!(holder(locks, "00:1b:9"), None);
    }

    #[test]
    fn this_process_is_shown_with_its_command() {
        let shown = LockHolder {
            process: Some((std::process::id(), command(std::process::id()))),
        };
        let shown = shown.to_string();
        assert!(shown.starts_with(&format!("process {} (", std::process::id())));
        assert!(
            !shown.contains("unknown") && !shown.contains('\0'),
            "{shown}"
        );
    }
}
