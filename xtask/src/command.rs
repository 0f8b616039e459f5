//! Starts other programs, cargo as the calling user, others as root where they need it; and the folders that they work in.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
    thread,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, bail};

pub use crate::toolchain::{output, which};

/// The repository's top folder.
pub fn repository() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// Cargo's target folder, as configured: this executable is in it.
///
/// # Errors
///
/// The path of this executable is unknown.
pub fn target() -> Result<PathBuf> {
    let own = env::current_exe().context("cannot find the path of this executable")?;
    let target = own
        .ancestors()
        .nth(2)
        .context("this executable is not in a target folder")?;
    Ok(target.to_owned())
}

/// The cargo that runs this task, with the repository as its working directory.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    // `cargo run` sets these for this task. ring's build script reads them: ring and its dependents would be rebuilt
    // whenever a task runs after plain cargo or before it.
    for (name, _) in env::vars_os() {
        let text = name.to_string_lossy();
        if text.starts_with("CARGO_PKG_") || text.starts_with("CARGO_MANIFEST_") {
            command.env_remove(name);
        }
    }
    command
}

/// `program` as root: through sudo where this task does not run as root.
///
/// The environment is kept. Cargo never runs as root this way.
///
/// # Errors
///
/// This task does not run as root, and there is no sudo.
pub fn as_root(program: impl AsRef<OsStr>) -> Result<Command> {
    let program = program.as_ref();
    if is_root() {
        return Ok(Command::new(program));
    }
    let Some(sudo) = which("sudo") else {
        bail!(
            "{} needs root, and there is no sudo: run this as root, or install sudo",
            program.display()
        );
    };
    let mut command = Command::new(sudo);
    command.arg("-E").arg(program);
    Ok(command)
}

/// `true` if this task runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// `true` if there is a sudo, which [`as_root`] needs.
pub fn can_be_root() -> bool {
    which("sudo").is_some()
}

/// Runs a command in the foreground.
///
/// # Errors
///
/// The command cannot be started.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let name = name(command);
    command
        .status()
        .with_context(|| format!("cannot start {name}"))
}

/// Runs a command in the foreground. Failure is an error.
///
/// # Errors
///
/// The command cannot be started, or fails.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// `true` if the command succeeds within `patience`; a slower one is killed.
pub(crate) fn succeeds_within(command: &mut Command, patience: Duration) -> bool {
    let Ok(mut child) = command.spawn() else {
        return false;
    };
    let deadline = Instant::now() + patience;
    loop {
        match child.try_wait() {
            Ok(Some(status)) => return status.success(),
            Ok(None) if Instant::now() < deadline => thread::sleep(Duration::from_millis(50)),
            _ => {
                // Both fail only if the process has ended meanwhile.
                let _ = child.kill();
                let _ = child.wait();
                return false;
            }
        }
    }
}

/// A program's exit status, to return as one's own: 128 + the signal's number if a signal ended it, as in a shell.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The program's file name and its first argument, for messages.
fn name(command: &Command) -> String {
    let program = Path::new(command.get_program());
    let program = program.file_name().unwrap_or(program.as_os_str());
    match command.get_args().next() {
        Some(first) => format!("{} {}", program.display(), first.display()),
        None => program.display().to_string(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_named() {
        let failed = succeed(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(failed.to_string(), "sh -c failed (exit status: 3)");
        let absent = succeed(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(absent.to_string(), "cannot start no-such-program");
    }

    #[test]
    fn patience_has_an_end() {
        let second = Duration::from_secs(1);
        assert!(succeeds_within(&mut Command::new("true"), second));
        assert!(!succeeds_within(&mut Command::new("false"), second));
        let start = Instant::now();
        let mut slow = Command::new("sleep");
        assert!(!succeeds_within(slow.arg("60"), second / 10));
        assert!(start.elapsed() < 10 * second);
    }
}
