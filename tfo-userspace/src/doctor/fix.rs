//! The changes of `tfo doctor --fix`: it sets the sysctls that findings ask for, and keeps them for
//! the next boot. Nothing else.

use std::{io, path::PathBuf};

use super::finding::{Finding, SysctlFix, Verdict};
use crate::kernel::{
    netns,
    sysctl::SysctlError,
    sysctl_file::{self, FILE},
};

/// A sysctl was not changed, or is not kept.
#[derive(Debug, thiserror::Error)]
pub enum FixError {
    /// The kernel refuses it.
    #[error(transparent)]
    Sysctl(#[from] SysctlError),
    /// It has another value than when it was judged.
    #[error(
        "{sysctl}: it was {from} a moment ago and is {now}: somebody else changes it: run `tfo doctor` again"
    )]
    Changed {
        /// The sysctl.
        sysctl: &'static str,
        /// The value that was judged.
        from: u32,
        /// The value now.
        now: u32,
    },
    /// The file.
    #[error(
        "{FILE}: {0}: the values are in force, but not kept for the next boot: make the directory writable, or write them where this host's sysctls come from"
    )]
    File(io::Error),
}

/// Why values in force are not kept for the next boot.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unkept {
    /// Files of `/etc/sysctl.d` are for the first network namespace.
    OtherNamespace,
    /// Files that are read later have another word.
    Overridden(&'static str, Vec<PathBuf>),
}

impl std::fmt::Display for Unkept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::OtherNamespace => f.write_str(
                "not kept: /etc/sysctl.d is for the first network namespace, and a later one has its values from whoever makes it: set them there",
            ),
            Self::Overridden(sysctl, files) => {
                let files: Vec<_> = files.iter().map(|it| it.display().to_string()).collect();
                let files = files.join(", ");
                write!(f, "{files}: sets {sysctl}, too, and is read after {FILE}: change it there")
            }
        }
    }
}

/// The changes that resolve warnings and problems, one for each sysctl. What is only worth knowing may be meant.
pub fn fixes(findings: &[Finding]) -> Vec<SysctlFix> {
    let mut fixes: Vec<SysctlFix> = Vec::new();
    let bad = findings
        .iter()
        .filter(|each| each.verdict >= Verdict::Warning);
    for fix in bad.filter_map(|each| each.fix) {
        if fixes.iter().all(|other| other.sysctl != fix.sysctl) {
            fixes.push(fix);
        }
    }
    fixes
}

impl SysctlFix {
    /// Sets the sysctl, unless it changed since it was judged.
    ///
    /// # Errors
    ///
    /// [`FixError`].
    pub fn apply(&self) -> Result<(), FixError> {
        let (sysctl, now) = (self.sysctl.name, self.sysctl.get()?);
        if now != self.from {
            let from = self.from;
            return Err(FixError::Changed { sysctl, from, now });
        }
        Ok(self.sysctl.set(self.to)?)
    }
}

/// Returns [`Unkept::OtherNamespace`] where the calling thread's namespace has no file.
pub fn has_no_file() -> Option<Unkept> {
    let is_first = netns::is_that_of_init() == Some(true);
    (!is_first).then_some(Unkept::OtherNamespace)
}

/// Writes the values to [`FILE`], where it is for this namespace. Gives those that are not kept for the next boot all the same.
///
/// # Errors
///
/// [`FixError::File`].
pub fn keep(fixes: &[SysctlFix]) -> Result<Vec<Unkept>, FixError> {
    if let Some(unkept) = has_no_file() {
        return Ok(vec![unkept]);
    }
    let values: Vec<_> = fixes.iter().map(|fix| (fix.sysctl.name, fix.to)).collect();
    sysctl_file::keep(&values).map_err(FixError::File)?;
    let later = values.iter().filter_map(|(name, _)| {
        let others = sysctl_file::read_later(name);
        (!others.is_empty()).then_some(Unkept::Overridden(name, others))
    });
    Ok(later.collect())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kernel::sysctl::{TCP_FASTOPEN, TCP_SYNCOOKIES};

    #[test]
    fn faults_are_fixed_and_notes_are_not() {
        let findings = [
            Finding::ok("a", ""),
            Finding::note("b", "").fix(&TCP_SYNCOOKIES, [0, 1]),
            Finding::problem("c", "").remedy("something else"),
            Finding::problem("d", "").fix(&TCP_FASTOPEN, [1, 3]),
            Finding::warning("e", "").fix(&TCP_FASTOPEN, [1, 3]),
        ];
        let fixes = fixes(&findings);
        assert_eq!(fixes.len(), 1);
        assert_eq!((fixes[0].from, fixes[0].to), (1, 3));
        let json = serde_json::to_value(fixes[0]).unwrap();
        assert_eq!(
            json,
            serde_json::json!({ "sysctl": "net.ipv4.tcp_fastopen", "from": 1, "to": 3 })
        );
    }
}
