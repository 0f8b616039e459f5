//! `tfo doctor --fix`: what tfo sets by itself, and what it leaves to the operator.

use serde_json::{Value, json};
use tfo_userspace::{
    doctor::{self, Finding, FixError, SysctlFix, Unkept, Verdict},
    kernel::sysctl_file::FILE,
};

use crate::cli::output::counted;

/// The changes that were made, or would be.
pub(super) struct Fixing {
    /// The changes; with why one was not made.
    changes: Vec<(SysctlFix, Option<FixError>)>,
    /// Values that are not kept for the next boot.
    unkept: Vec<Unkept>,
    /// Why the file could not be written.
    file: Option<FixError>,
    done: bool,
}

impl Fixing {
    /// Returns the changes that would be made.
    pub(super) fn plan(findings: &[Finding]) -> Self {
        let changes = doctor::fixes(findings).into_iter();
        Self {
            changes: changes.map(|fix| (fix, None)).collect(),
            unkept: doctor::has_no_file().into_iter().collect(),
            file: None,
            done: false,
        }
    }

    /// Does it.
    pub(super) fn apply(findings: &[Finding]) -> Self {
        let changes = doctor::fixes(findings).into_iter();
        let changes: Vec<_> = changes.map(|fix| (fix, fix.apply().err())).collect();
        let made = changes.iter().filter(|(_, error)| error.is_none());
        let made: Vec<_> = made.map(|(fix, _)| *fix).collect();
        let kept = if made.is_empty() {
            Ok(Vec::new())
        } else {
            doctor::keep(&made)
        };
        let (unkept, file) = match kept {
            Ok(unkept) => (unkept, None),
            Err(error) => (Vec::new(), Some(error)),
        };
        Self {
            changes,
            unkept,
            file,
            done: true,
        }
    }

    /// Returns the errors.
    pub(super) fn errors(self) -> Vec<FixError> {
        let errors = self.changes.into_iter().filter_map(|(_, error)| error);
        errors.chain(self.file).collect()
    }

    /// A value is kept in the file, or would be.
    fn writes_file(&self) -> bool {
        let made = self.changes.iter().any(|(_, error)| error.is_none());
        made && self.file.is_none() && !self.unkept.contains(&Unkept::OtherNamespace)
    }

    pub(super) fn text(&self) -> String {
        let mut text = String::new();
        if self.changes.is_empty() {
            text += "nothing here is for tfo to set\n";
        } else if !self.done {
            let count = counted(self.changes.len() as u64, "sysctl", "sysctls");
            text += &format!("tfo would set {count}; `--fix --yes` does so:\n");
        }
        for (SysctlFix { sysctl, from, to }, error) in &self.changes {
            let name = sysctl.name;
            text += &match (self.done, error) {
                (false, _) => format!("  sysctl -w {name}={to} (it is {from})\n"),
                (true, None) => format!("set {name} = {to} (it was {from})\n"),
                (true, Some(_)) => continue,
            };
        }
        if self.writes_file() {
            text += &if self.done {
                format!("written to {FILE}, for the next boot\n")
            } else {
                format!("  in {FILE}, too, for the next boot\n")
            };
        }
        if !self.changes.is_empty() {
            for unkept in &self.unkept {
                text += &format!("{unkept}\n");
            }
        }
        text
    }

    pub(super) fn json(&self) -> Value {
        let changes = self.changes.iter().map(|(fix, error)| {
            let mut value = json!(fix);
            value["done"] = json!(self.done && error.is_none());
            value["error"] = json!(error.as_ref().map(ToString::to_string));
            value
        });
        let unkept = self.unkept.iter().map(ToString::to_string);
        let unkept = unkept.chain(self.file.as_ref().map(ToString::to_string));
        json!({
            "changes": changes.collect::<Vec<_>>(),
            "file": self.writes_file().then_some(FILE),
            "not_kept": unkept.collect::<Vec<_>>(),
        })
    }
}

/// Warnings and problems that tfo does nothing about.
pub(super) fn left(findings: &[Finding]) -> Vec<Finding> {
    let bad = findings
        .iter()
        .filter(|each| each.verdict >= Verdict::Warning);
    bad.filter(|each| each.fix.is_none()).cloned().collect()
}
