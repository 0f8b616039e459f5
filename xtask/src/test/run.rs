//! Runs one test binary and parses its output.

use std::{
    collections::BTreeMap,
    ffi::OsString,
    io::{BufRead as _, BufReader},
    process::{Command, Stdio},
};

use anyhow::{Context as _, Result};

use super::{
    report::{Failure, Report},
    suite::Selected,
};
use crate::command::as_root;

impl Selected {
    /// Runs the tests with additional `args`, prints their output, and returns their results.
    ///
    /// # Errors
    ///
    /// The binary cannot be started.
    pub(super) fn run(&self, args: &[OsString]) -> Result<Report> {
        let mut command = if self.needs_root() {
            as_root(self.executable())?
        } else {
            Command::new(self.executable())
        };
        // Durations are an unstable output of libtest. This variable allows them with a stable toolchain.
        command.env("RUSTC_BOOTSTRAP", "1");
        command.args(["-Z", "unstable-options", "--report-time"]);
        command.arg("--exact").args(self.tests()).args(args);
        command.current_dir(self.folder()).stdout(Stdio::piped());
        let mut child = command
            .spawn()
            .with_context(|| format!("cannot start {}", self.executable().display()))?;
        let mut output = Output::default();
        if let Some(stdout) = child.stdout.take() {
            for line in BufReader::new(stdout).split(b'\n') {
                let line = line?;
                let line = String::from_utf8_lossy(&line);
                println!("{line}");
                output.read(&line);
            }
        }
        let status = child.wait()?;
        let early = (!output.ended).then(|| format!("the test binary ended early: {status}"));
        Ok(output.report(self, early))
    }
}

/// The parsed output of a test binary.
#[derive(Debug, Default)]
struct Output {
    passed: u64,
    ignored: u64,
    /// The line with the counts was there.
    ended: bool,
    seconds: BTreeMap<String, f64>,
    /// The first line of each error, by test.
    errors: BTreeMap<String, String>,
    /// The names in the final list of failures.
    failed: Vec<String>,
    section: Section,
}

/// The part of the output that a line belongs to.
#[derive(Debug, Default, PartialEq, Eq)]
enum Section {
    /// Results, one test a line.
    #[default]
    Tests,
    /// The list of failures, behind its heading.
    Failures,
    /// The captured output of a test that failed.
    Captured(String),
    /// The lines behind the place of a panic.
    Panic(String),
}

impl Output {
    fn read(&mut self, line: &str) {
        if let Some(counts) = line.strip_prefix("test result: ") {
            let count = |what: &str| {
                let before = counts.split_once(what)?.0;
                before.rsplit(' ').next()?.parse().ok()
            };
            self.passed += count(" passed").unwrap_or(0);
            self.ignored += count(" ignored").unwrap_or(0);
            self.ended = true;
        } else if line == "failures:" {
            self.section = Section::Failures;
        } else if let Some(name) = captured(line) {
            self.section = Section::Captured(name.to_owned());
        } else {
            self.read_in_section(line);
        }
    }

    fn read_in_section(&mut self, line: &str) {
        match &self.section {
            Section::Tests => {
                if let Some((test, seconds)) = timed(line) {
                    self.seconds.insert(test.to_owned(), seconds);
                }
            }
            Section::Failures => {
                let name = line.strip_prefix("    ");
                self.failed.extend(name.map(str::to_owned));
            }
            Section::Captured(test) => {
                let test = test.clone();
                if line.contains("' panicked at ") || line.contains(") panicked at ") {
                    self.section = Section::Panic(test);
                } else if let Some(error) = line.strip_prefix("Error: ") {
                    self.errors.entry(test).or_insert_with(|| error.to_owned());
                }
            }
            Section::Panic(test) => {
                let test = test.clone();
                self.errors
                    .entry(test.clone())
                    .or_insert_with(|| line.to_owned());
                self.section = Section::Captured(test);
            }
        }
    }

    fn report(self, suite: &Selected, early: Option<String>) -> Report {
        let failure = |test: &String| {
            let (suite, name) = suite.name(test);
            Failure {
                suite: suite.to_owned(),
                test: name.to_owned(),
                seconds: self.seconds.get(test).copied(),
                error: self.errors.get(test).cloned().unwrap_or_default(),
            }
        };
        let mut failures: Vec<_> = self.failed.iter().map(failure).collect();
        failures.extend(early.map(|error| Failure {
            suite: suite.name("").0.to_owned(),
            test: "all".to_owned(),
            seconds: None,
            error,
        }));
        Report {
            passed: self.passed,
            skipped: self.ignored,
            failures,
            ..Report::default()
        }
    }
}

/// The test in a heading of captured output.
fn captured(line: &str) -> Option<&str> {
    line.strip_prefix("---- ")?.strip_suffix(" stdout ----")
}

/// The test and its seconds in a line with its result.
fn timed(line: &str) -> Option<(&str, f64)> {
    let (test, end) = line.strip_prefix("test ")?.split_once(" ... ")?;
    let (_, seconds) = end.rsplit_once(" <")?;
    Some((test, seconds.strip_suffix("s>")?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    const OUTPUT: &str = "
running 4 tests
test guard::gate::slow ... FAILED <12.500s>
test guard::fast ... ok <0.001s>
test guard::late ... ignored
test veth::panics ... FAILED <0.002s>

failures:

---- guard::gate::slow stdout ----
seed 3
Error: not within 5s: the guard is on
  the second line

---- veth::panics stdout ----

thread 'veth::panics' (71) panicked at tests/veth.rs:3:5:
assertion failed: false
note: run with `RUST_BACKTRACE=1` environment variable to display a backtrace

failures:
    guard::gate::slow
    veth::panics

test result: FAILED. 1 passed; 2 failed; 1 ignored; 0 measured; 8 filtered out; finished in 12.51s
";

    #[test]
    fn counts_times_and_errors_are_read() {
        let mut output = Output::default();
        OUTPUT.lines().for_each(|line| output.read(line));
        assert!(output.ended);
        assert_eq!((output.passed, output.ignored), (1, 1));
        assert_eq!(output.failed, ["guard::gate::slow", "veth::panics"]);
        assert_eq!(output.seconds.get("guard::gate::slow"), Some(&12.5));
        let error = |test| output.errors.get(test).map(String::as_str);
        assert_eq!(
            error("guard::gate::slow"),
            Some("not within 5s: the guard is on")
        );
        assert_eq!(error("veth::panics"), Some("assertion failed: false"));
    }

    #[test]
    fn an_output_that_breaks_off_has_no_end() {
        let mut output = Output::default();
        output.read("test veth::one ... ok <0.001s>");
        assert!(!output.ended);
    }
}
