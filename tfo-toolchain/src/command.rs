//! Finds and asks programs.

use std::{env, fs, os::unix::fs::MetadataExt as _, path::PathBuf, process::Command};

/// Folders that an ordinary user's `PATH` lacks on Debian.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The path of `program`, from `PATH` or [`ADMIN_FOLDERS`].
pub fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMIN_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| {
            fs::metadata(candidate).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
        })
}

/// The trimmed standard output of a command; `None` if it cannot start or fails.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn which_finds_only_what_can_be_run() {
        assert!(which("sh").is_some());
        assert_eq!(which("no-such-program"), None);
        assert_eq!(which("rustlib"), None);
    }

    #[test]
    fn output_is_trimmed_and_only_of_a_success() {
        let sh = |script| output(Command::new("sh").args(["-c", script]));
        assert_eq!(sh("echo ' 1 '").as_deref(), Some("1"));
        assert_eq!(sh("echo 1; false"), None);
        assert_eq!(output(&mut Command::new("no-such-program")), None);
    }
}
