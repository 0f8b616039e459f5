//! The results of a test run.

use std::{fmt, time::Duration};

use super::suite::Selected;

/// The counts of a run, and each test that failed.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Report {
    /// Number of tests that passed.
    pub passed: u64,
    /// Number of tests that were ignored or left out.
    pub skipped: u64,
    /// The tests that failed.
    pub failures: Vec<Failure>,
    /// The binaries that ran.
    pub ran: Vec<String>,
    /// The binaries that were left out because they need root.
    pub left_out: Vec<String>,
    /// Duration of the whole run, including the build.
    pub took: Duration,
}

/// A test that failed.
#[derive(Clone, Debug, PartialEq)]
pub struct Failure {
    /// The suite, as `cargo xtask test` takes it.
    pub suite: String,
    /// The test's name in the suite.
    pub test: String,
    /// Duration in seconds, if the test binary printed it.
    pub seconds: Option<f64>,
    /// The first line of its error.
    pub error: String,
}

impl Report {
    /// No test failed.
    pub const fn is_success(&self) -> bool {
        self.failures.is_empty()
    }

    /// Adds the results of another binary.
    pub(super) fn add(&mut self, suite: &Selected, other: Self) {
        self.ran.push(suite.to_string());
        self.merge(other);
    }

    fn merge(&mut self, other: Self) {
        self.passed += other.passed;
        self.skipped += other.skipped;
        self.failures.extend(other.failures);
    }

    /// Counts the tests of these binaries as skipped.
    pub(super) fn leave_out(&mut self, suites: &[Selected]) {
        for suite in suites {
            self.skipped += suite.tests().len() as u64;
            self.left_out.push(suite.to_string());
        }
    }
}

/// A table of the tests that failed; where binaries were left out, these and those that ran; and the counts on the last line.
impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = |of: fn(&Failure) -> &str, least: usize| {
            let widths = self.failures.iter().map(|failure| of(failure).len());
            widths.max().unwrap_or(0).max(least)
        };
        let suites = width(|failure| &failure.suite, "suite".len());
        let tests = width(|failure| &failure.test, "test".len());
        if !self.is_success() {
            writeln!(
                f,
                "\nfailed:\n  {:suites$}  {:tests$}  seconds  error",
                "suite", "test"
            )?;
        }
        for failure in &self.failures {
            let Failure { suite, test, .. } = failure;
            let seconds = failure.seconds.map(|seconds| format!("{seconds:.1}"));
            let seconds = seconds.unwrap_or_default();
            writeln!(
                f,
                "  {suite:suites$}  {test:tests$}  {seconds:>7}  {}",
                failure.error
            )?;
        }
        if !self.left_out.is_empty() {
            for suite in &self.ran {
                writeln!(f, "tfo: ran {suite}")?;
            }
            for suite in &self.left_out {
                writeln!(f, "tfo: left out {suite}")?;
            }
            writeln!(
                f,
                "tfo: what was left out needs root, and there is no sudo: run this as root, or install sudo"
            )?;
        }
        writeln!(f, "tfo: the tests took {} s", self.took.as_secs())?;
        let (passed, failed) = (self.passed, self.failures.len());
        writeln!(
            f,
            "{passed} passed, {failed} failed, {} skipped",
            self.skipped
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn failures_are_a_table_and_counts_the_last_line() {
        let failure = |suite: &str, test: &str, seconds| Failure {
            suite: suite.into(),
            test: test.into(),
            seconds,
            error: "not within 5s".into(),
        };
        let mut report = Report {
            passed: 3,
            took: Duration::from_secs(12),
            ..Report::default()
        };
        assert!(report.is_success());
        assert_eq!(
            report.to_string(),
            "tfo: the tests took 12 s\n3 passed, 0 failed, 0 skipped\n"
        );
        report.merge(Report {
            skipped: 1,
            failures: vec![
                failure("guard", "gate::slow", Some(12.51)),
                failure("tfo_common", "all", None),
            ],
            ..Report::default()
        });
        assert!(!report.is_success());
        assert_eq!(
            report.to_string(),
            "\nfailed:\n\
             \u{20} suite       test        seconds  error\n\
             \u{20} guard       gate::slow     12.5  not within 5s\n\
             \u{20} tfo_common  all                  not within 5s\n\
             tfo: the tests took 12 s\n\
             3 passed, 2 failed, 1 skipped\n"
        );
    }

    #[test]
    fn without_root_it_says_what_ran_and_what_did_not() {
        let report = Report {
            passed: 2,
            skipped: 3,
            ran: vec!["tfo-common, tfo_common: 2 tests".into()],
            left_out: vec!["suites, network: 3 tests, as root".into()],
            ..Report::default()
        };
        assert_eq!(
            report.to_string(),
            "tfo: ran tfo-common, tfo_common: 2 tests\n\
             tfo: left out suites, network: 3 tests, as root\n\
             tfo: what was left out needs root, and there is no sudo: run this as root, or install sudo\n\
             tfo: the tests took 0 s\n\
             2 passed, 0 failed, 3 skipped\n"
        );
    }
}
