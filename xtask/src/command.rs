//! How the tasks start other programs: cargo as whoever runs the task, what needs it as root.

use std::{
    env,
    ffi::OsStr,
    fs,
    os::unix::{fs::MetadataExt as _, process::ExitStatusExt as _},
    path::{Path, PathBuf},
    process::{Command, ExitCode, ExitStatus},
};

use anyhow::{Context as _, Result, bail};

/// Where administrators' tools are, which an ordinary user's `PATH` lacks on Debian.
const ADMIN_FOLDERS: [&str; 3] = ["/usr/local/sbin", "/usr/sbin", "/sbin"];

/// The repository's top folder.
pub fn repository() -> &'static Path {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    own.parent().unwrap_or(own)
}

/// The cargo that runs this task, at work in the repository.
pub fn cargo() -> Command {
    let mut command = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    command.current_dir(repository());
    // What `cargo run` tells this task of itself: ring's build script looks there, and would have all that
    // depends on it built anew whenever plain cargo ran in between.
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
/// The environment is handed on. Cargo itself never runs this way.
///
/// # Errors
///
/// This is not root, and there is no sudo.
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

/// Whether this task runs as root.
pub fn is_root() -> bool {
    fs::metadata("/proc/self").is_ok_and(|process| process.uid() == 0)
}

/// Whether there is a sudo, for [`as_root`].
pub fn can_be_root() -> bool {
    which("sudo").is_some()
}

/// Where `program` is, in `PATH` or among the administrators' tools.
pub fn which(program: &str) -> Option<PathBuf> {
    let path = env::var_os("PATH").unwrap_or_default();
    env::split_paths(&path)
        .chain(ADMIN_FOLDERS.map(PathBuf::from))
        .map(|folder| folder.join(program))
        .find(|candidate| {
            fs::metadata(candidate).is_ok_and(|file| file.is_file() && file.mode() & 0o111 != 0)
        })
}

/// What a command writes to its standard output, if it can be run and succeeds.
pub fn output(command: &mut Command) -> Option<String> {
    let output = command.output().ok()?;
    let text = String::from_utf8(output.stdout).ok()?;
    output.status.success().then(|| text.trim().to_owned())
}

/// Runs a command in the foreground, to its end.
///
/// # Errors
///
/// It could not be started.
pub fn status(command: &mut Command) -> Result<ExitStatus> {
    let name = name(command);
    command
        .status()
        .with_context(|| format!("cannot start {name}"))
}

/// Runs a command in the foreground, and insists on success.
///
/// # Errors
///
/// It could not be started, or it failed.
pub fn succeed(command: &mut Command) -> Result<()> {
    let status = status(command)?;
    if !status.success() {
        bail!("{} failed ({status})", name(command));
    }
    Ok(())
}

/// The exit status to pass on for a program's: its own, or as a shell puts it if a signal ended it.
pub fn exit_code(status: ExitStatus) -> ExitCode {
    let code = status
        .code()
        .or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok())
        .map_or(ExitCode::FAILURE, ExitCode::from)
}

/// The program's file name and its first argument, as messages call it.
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

    #[test]
    fn failures_are_named() {
        let failed = succeed(Command::new("sh").args(["-c", "exit 3"])).unwrap_err();
        assert_eq!(failed.to_string(), "sh -c failed (exit status: 3)");
        let absent = succeed(&mut Command::new("no-such-program")).unwrap_err();
        assert_eq!(absent.to_string(), "cannot start no-such-program");
    }
}
