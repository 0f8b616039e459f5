//! `cargo xtask test`: the unit tests as whoever asks, the kernel suites as root.

use std::{
    ffi::OsString,
    io::{BufRead as _, BufReader},
    path::PathBuf,
    process::{Command, Stdio},
    time::Instant,
};

use anyhow::{Context as _, Result, bail};

use crate::{
    build::{self, Profile},
    command::{as_root, cargo, is_root, repository},
    setup,
};

/// Runs the test executables under sudo, and leaves cargo itself out of it.
const SUDO_RUNNER: &str = r#"target."cfg(all())".runner = ["sudo", "-E"]"#;

/// Runs all tests. `args` go to the kernel suites.
///
/// # Errors
///
/// Something is missing and cannot be installed, the build fails, or a test does.
pub fn test(args: &[OsString]) -> Result<()> {
    setup::ensure()?;
    let start = Instant::now();
    build::tfo(Profile::Dev)?;

    println!("tfo: unit tests");
    let mut unit = cargo();
    unit.args([
        "test",
        "-p",
        "tfo-common",
        "-p",
        "tfo-userspace",
        "-p",
        "xtask",
        // The suites' build of the library.
        "--features",
        "tfo-userspace/test-hooks",
    ]);
    let unit = passed(&mut unit).context("unit tests")?;

    println!("tfo: kernel suites, as root");
    let mut kernel = cargo();
    kernel.args(["test", "-p", "tfo-tests"]);
    if !is_root() {
        as_root("the test suite")?;
        kernel.args(["--config", SUDO_RUNNER]);
    }
    kernel.arg("--").args(args);
    let kernel = passed(&mut kernel).context("kernel suites")?;

    println!(
        "tfo: {} tests passed, {unit} of them unit tests and {kernel} in the kernel suites, in {} s",
        unit + kernel,
        start.elapsed().as_secs()
    );
    Ok(())
}

/// Builds the kernel suites of these names, or all of them, and gives the paths of their executables.
///
/// # Errors
///
/// The build fails, or there is no such suite.
pub fn suites(names: &[String]) -> Result<Vec<PathBuf>> {
    let mut command = cargo();
    command.args(["test", "-p", "tfo-tests", "--no-run"]);
    match names {
        [] => command.args(["--test", "*"]),
        names => command.args(names.iter().flat_map(|name| ["--test", name])),
    };
    // For people, cargo names each executable in brackets at the end of a line.
    let built = command
        .stderr(Stdio::piped())
        .output()
        .context("cannot start cargo")?;
    let lines = String::from_utf8_lossy(&built.stderr);
    if !built.status.success() {
        bail!("the suites cannot be built:\n{lines}");
    }
    let executables = lines.lines().filter_map(executable);
    Ok(executables.map(|path| repository().join(path)).collect())
}

/// The path in a line that names an executable.
fn executable(line: &str) -> Option<&str> {
    let line = line.trim().strip_prefix("Executable ")?;
    line.strip_suffix(')')?
        .rsplit_once('(')
        .map(|(_, path)| path)
}

/// Runs cargo's test command, shows what it writes, and counts the tests that passed.
fn passed(command: &mut Command) -> Result<u64> {
    let mut child = command
        .stdout(Stdio::piped())
        .spawn()
        .context("cannot start cargo")?;
    let mut passed = 0;
    if let Some(stdout) = child.stdout.take() {
        for line in BufReader::new(stdout).split(b'\n') {
            let line = line?;
            let line = String::from_utf8_lossy(&line);
            println!("{line}");
            passed += passed_in(&line).unwrap_or(0);
        }
    }
    if !child.wait()?.success() {
        bail!("failed; the lines above say which");
    }
    Ok(passed)
}

/// How many tests passed, if this is the closing line of a test executable.
fn passed_in(line: &str) -> Option<u64> {
    let counts = line.strip_prefix("test result: ok. ")?;
    counts.split_once(" passed")?.0.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn closing_lines_are_counted() {
        let line = "test result: ok. 12 passed; 0 failed; 1 ignored; 0 measured; 3 filtered out";
        assert_eq!(passed_in(line), Some(12));
        assert_eq!(passed_in("test wire::tests::short ... ok"), None);
    }

    #[test]
    fn executables_are_found_in_what_cargo_says() {
        let line = "  Executable tests/veth.rs (target/debug/deps/veth-5fe6ae241bf37d92)";
        assert_eq!(
            executable(line),
            Some("target/debug/deps/veth-5fe6ae241bf37d92")
        );
        assert_eq!(executable("   Compiling tfo-tests v0.1.0 (/tests)"), None);
    }

    #[test]
    fn output_is_counted_across_executables() {
        let line = "test result: ok. 2 passed; 0 failed";
        let mut command = Command::new("printf");
        command.arg(format!("running\\n{line}\\n\\n{line}\\n"));
        assert_eq!(passed(&mut command).unwrap(), 4);
        assert!(passed(&mut Command::new("false")).is_err());
    }
}
