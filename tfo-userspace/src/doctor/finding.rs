//! The findings of checks.

use std::fmt;

use crate::{datapath::NamespaceError, kernel::sysctl::Sysctl};

/// The severity of a finding, the best first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, serde::Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// Nothing to do.
    Ok,
    /// The check could not run; the finding says why.
    Unknown,
    /// Worth knowing; not a fault.
    Note,
    /// Fast Open or `tfo` works, but worse or less safely than it could.
    Warning,
    /// Fast Open or `tfo` does not work.
    Problem,
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(match self {
            Self::Ok => "ok",
            Self::Unknown => "unknown",
            Self::Note => "note",
            Self::Warning => "warning",
            Self::Problem => "problem",
        })
    }
}

/// The finding of one check.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct Finding {
    /// The name of the check, such as `tcp_fastopen`.
    pub check: &'static str,
    /// The interface that was checked.
    pub interface: Option<String>,
    /// The severity.
    pub verdict: Verdict,
    /// The fact that was found.
    pub found: String,
    /// A command or setting that resolves it.
    pub remedy: Option<String>,
    /// The remedy as a change of a sysctl, where it is one.
    pub fix: Option<SysctlFix>,
}

/// A change of a sysctl.
#[derive(Clone, Copy, Debug, PartialEq, Eq, serde::Serialize)]
pub struct SysctlFix {
    /// The sysctl.
    pub sysctl: &'static Sysctl,
    /// Its value.
    pub from: u32,
    /// The value that resolves the finding.
    pub to: u32,
}

impl Finding {
    pub(super) fn new(check: &'static str, verdict: Verdict, found: impl Into<String>) -> Self {
        Self {
            check,
            interface: None,
            verdict,
            found: found.into(),
            remedy: None,
            fix: None,
        }
    }

    pub(super) fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Ok, found)
    }

    pub(super) fn unknown(check: &'static str, why: impl Into<String>) -> Self {
        Self::new(check, Verdict::Unknown, why)
    }

    pub(super) fn note(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Note, found)
    }

    pub(super) fn warning(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Warning, found)
    }

    pub(super) fn problem(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, Verdict::Problem, found)
    }

    pub(super) fn remedy(mut self, remedy: impl Into<String>) -> Self {
        self.remedy = Some(remedy.into());
        self
    }

    pub(super) const fn fix(mut self, sysctl: &'static Sysctl, [from, to]: [u32; 2]) -> Self {
        self.fix = Some(SysctlFix { sysctl, from, to });
        self
    }

    pub(super) fn of(mut self, interface: &str) -> Self {
        self.interface = Some(interface.to_owned());
        self
    }
}

/// The finding and the remedy of an error that ends with its remedy.
pub(super) fn parts(error: &str) -> (&str, &str) {
    error.rsplit_once(": ").unwrap_or((error, ""))
}

/// The findings of a check that reads facts about what is attached; none where there are no such facts.
pub(super) fn judged<T>(
    check: &'static str,
    facts: Result<Option<T>, NamespaceError>,
    judge: impl FnOnce(&T) -> Vec<Finding>,
) -> Vec<Finding> {
    match facts {
        Ok(Some(facts)) => judge(&facts),
        Ok(None) | Err(NamespaceError::NothingAttached(_)) => Vec::new(),
        Err(error) => vec![Finding::unknown(check, error.to_string())],
    }
}

#[cfg(test)]
pub(super) mod testing {
    use super::{Finding, Verdict};

    /// The finding of a check; panics unless there is exactly one.
    pub(in crate::doctor) fn find<'a>(findings: &'a [Finding], check: &str) -> &'a Finding {
        let mut found = findings.iter().filter(|each| each.check == check);
        let finding = found
            .next()
            .unwrap_or_else(|| panic!("no {check} in {findings:?}"));
        assert_eq!(found.next(), None);
        finding
    }

    /// Asserts that the check has this verdict and this text, and a remedy from [`Verdict::Warning`] on.
    pub(in crate::doctor) fn expect(
        findings: &[Finding],
        check: &str,
        verdict: Verdict,
        says: &str,
    ) {
        let finding = find(findings, check);
        assert_eq!(finding.verdict, verdict, "{finding:?}");
        assert!(
            finding.found.contains(says),
            "{says:?} is not in {finding:?}"
        );
        assert!(
            finding.verdict < Verdict::Warning || finding.remedy.is_some(),
            "no remedy: {finding:?}"
        );
    }
}
