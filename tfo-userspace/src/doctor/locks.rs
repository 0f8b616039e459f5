//! Locks: on the pins, without which nothing changes, and in `/run/tfo`, without which no service starts.

use std::time::Duration;

use super::finding::{Finding, parts};
use crate::datapath::{ControllerLock, DatapathError, Namespace};

const CHECK: &str = "locks";
/// The time for which another process may hold a lock before that is told: a change takes less.
const MOMENT: Duration = Duration::from_millis(500);

/// What became of a lock that was to be taken.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Trial {
    Taken,
    /// This process holds it, and has for a while: the file, and the process.
    Held(String, String),
    /// The cause and the remedy.
    Refused(String),
}

/// Facts about locks.
#[derive(Clone, Debug)]
pub(super) struct LockFacts {
    /// The lock on the namespace's pins.
    pins: Trial,
    /// A lock in `/run/tfo`, or why there can be none.
    service: Result<(), String>,
    /// The process id of the namespace's `tfo run`.
    controller: Option<u32>,
}

impl LockFacts {
    /// Takes and releases them. Waits no longer than [`MOMENT`].
    pub(super) fn read(namespace: &Namespace) -> Self {
        Self {
            pins: match namespace.try_lock(MOMENT) {
                Ok(()) => Trial::Taken,
                Err(DatapathError::Locked { path, holder, .. }) => {
                    Trial::Held(path.display().to_string(), holder)
                }
                Err(error) => Trial::Refused(error.to_string()),
            },
            service: ControllerLock::try_file().map_err(|error| error.to_string()),
            controller: ControllerLock::of(namespace),
        }
    }

    /// What reads under the lock on the pins would wait.
    pub(super) fn is_held(&self) -> bool {
        matches!(self.pins, Trial::Held(..))
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = Vec::new();
        match &self.pins {
            Trial::Taken => {}
            Trial::Held(file, holder) => {
                let found = format!(
                    "{file}: {holder} holds the lock: whatever changes something waits, and fails after 10 s"
                );
                let finding = Finding::warning(CHECK, found);
                findings.push(finding.remedy("end that process, or try again when it is done"));
            }
            Trial::Refused(error) => {
                let (found, remedy) = parts(error);
                findings.push(Finding::problem(CHECK, found).remedy(remedy));
            }
        }
        if let Err(error) = &self.service {
            let (found, remedy) = parts(error);
            let found = format!("{found}: `tfo run` cannot start");
            findings.push(Finding::warning(CHECK, found).remedy(remedy));
        }
        if findings.is_empty() {
            findings.push(Finding::ok(
                CHECK,
                match self.controller {
                    Some(pid) => format!("can be taken; `tfo run` (process {pid}) has its own"),
                    None => "can be taken".to_owned(),
                },
            ));
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Verdict::{Ok as Fine, Problem, Warning},
        finding::testing::expect,
    };

    fn with(change: impl FnOnce(&mut LockFacts)) -> Vec<Finding> {
        let mut facts = LockFacts {
            pins: Trial::Taken,
            service: Ok(()),
            controller: None,
        };
        change(&mut facts);
        facts.judge()
    }

    #[test]
    fn a_lock_is_free_held_or_refused() {
        expect(&with(|_| ()), CHECK, Fine, "can be taken");
        let running = with(|facts| facts.controller = Some(7));
        expect(&running, CHECK, Fine, "process 7");
        let held = with(|facts| facts.pins = Trial::Held("net5".into(), "process 9 (a)".into()));
        expect(&held, CHECK, Warning, "net5: process 9 (a) holds");
        let refused = with(|facts| facts.pins = Trial::Refused("net5: denied: allow it".into()));
        expect(&refused, CHECK, Problem, "net5: denied");
        let full = with(|facts| facts.service = Err("x: full: free space".into()));
        expect(&full, CHECK, Warning, "x: full: `tfo run` cannot start");
        assert_eq!(full[0].remedy.as_deref(), Some("free space"));
    }
}
