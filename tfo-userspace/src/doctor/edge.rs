//! An edge or a host behind one, in a farm: who takes the answers to whose challenges, and the clock that they go by.

use std::collections::BTreeMap;

use tfo_common::guard::GuardMode;

use super::finding::{Finding, judged};
use crate::{
    datapath::{Namespace, NamespaceError},
    farm::{self, Verdict, clock_is_off},
    model::EdgeService,
};

const CHECK: &str = "guard and hosts";

/// Facts about the guards of this host's farm.
#[derive(Debug, Default)]
struct EdgeFacts {
    /// The services that this host challenges for, as its controller judges them, and whether it challenges now.
    services: BTreeMap<EdgeService, (Verdict, bool)>,
    /// This host's clock minus that of the farm's leader, in seconds.
    skew: Option<f64>,
}

/// No findings where there is no guard under a shared secret, or no farm.
pub(super) fn read_and_judge() -> Vec<Finding> {
    judged(CHECK, read(), EdgeFacts::judge)
}

fn read() -> Result<Option<EdgeFacts>, NamespaceError> {
    let namespace = Namespace::current()?;
    let state = namespace.guard().state()?;
    let guard = state.map(|state| state.guard);
    let guard = guard.filter(|guard| guard.secret.is_some());
    let report = farm::published(&namespace);
    Ok(guard.zip(report).map(|(guard, report)| {
        let services = report.edges.into_iter().filter_map(|(service, verdict)| {
            let edge = guard.edges.get(&service)?;
            Some((service, (verdict, edge.rule.mode != GuardMode::Off)))
        });
        EdgeFacts {
            services: services.collect(),
            skew: report.skew,
        }
    }))
}

impl EdgeFacts {
    fn judge(&self) -> Vec<Finding> {
        let mut findings: Vec<_> = self.services.iter().filter_map(judge_service).collect();
        let known = self.services.values().any(|(it, _)| it.taken.is_some());
        if findings.is_empty() && known {
            let found = "all hosts of the farm behind this one take the answers to its challenges";
            findings.push(Finding::ok(CHECK, found));
        }
        if let Some(skew) = self.skew.filter(|skew| clock_is_off(*skew)) {
            let found = format!(
                "this host's clock is {skew:+.1} s off from the farm's: its challenges are of another time slot than the \
                 other hosts take, and so are theirs here: clients that answer are reset"
            );
            let finding = Finding::problem("guard and clock", found);
            findings.push(finding.remedy("have NTP set the clocks of all hosts"));
        }
        findings
    }
}

fn judge_service(
    (service, (verdict, challenges)): (&EdgeService, &(Verdict, bool)),
) -> Option<Finding> {
    if verdict.refuses.is_empty() {
        return None;
    }
    let refusals = verdict.refusals();
    let finding = match (verdict.taken, challenges) {
        (Some(true), _) => {
            let found = format!(
                "{service}: not all hosts take the answers to challenges, and clients whose answers arrive there are reset: \
                 {refusals}"
            );
            Finding::warning(CHECK, found)
        }
        (_, true) => {
            let found = format!(
                "{service}: no host takes the answers to challenges, and each client is reset: {refusals}"
            );
            Finding::problem(CHECK, found)
        }
        (_, false) => {
            let found = format!(
                "{service}: no host takes the answers to challenges, so every SYN passes: {refusals}"
            );
            Finding::warning(CHECK, found)
        }
    };
    Some(finding.remedy(format!(
        "{}; docs/edge.md has the terms",
        verdict.remedy(service.port)
    )))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        doctor::{
            Verdict::{Ok as Fine, Problem, Warning},
            finding::testing::expect,
        },
        farm::Cause,
    };

    fn facts(taken: Option<bool>, causes: &[(&str, Cause)], challenges: bool) -> EdgeFacts {
        let causes = causes.iter();
        let verdict = Verdict {
            taken,
            refuses: causes
                .map(|(host, cause)| ((*host).to_owned(), cause.clone()))
                .collect(),
            ..Verdict::default()
        };
        let service = "198.51.100.7:443".parse().unwrap();
        EdgeFacts {
            services: [(service, (verdict, challenges))].into(),
            skew: Some(0.5),
        }
    }

    #[test]
    fn what_hosts_behind_an_edge_take_is_told() {
        let other = [("web-2", Cause::OtherSecret)];
        for (facts, verdict, says) in [
            (facts(Some(true), &[], true), Fine, "all hosts"),
            (
                facts(Some(true), &other, true),
                Warning,
                "198.51.100.7:443: not all hosts take the answers to challenges, and clients whose answers arrive there are \
                 reset: web-2 has another secret",
            ),
            (
                facts(Some(false), &other, false),
                Warning,
                "so every SYN passes: web-2",
            ),
            (
                facts(Some(false), &other, true),
                Problem,
                "each client is reset: web-2",
            ),
        ] {
            let findings = facts.judge();
            expect(&findings, CHECK, verdict, says);
            assert_eq!(findings.len(), 1);
        }
        // A service without a host of the farm.
        assert_eq!(facts(None, &[], true).judge(), Vec::new());
    }

    #[test]
    fn a_clock_that_is_off_is_a_problem() {
        for (skew, off) in [(34.0, false), (-34.0, false), (34.5, true), (-140.0, true)] {
            let facts = EdgeFacts {
                skew: Some(skew),
                ..EdgeFacts::default()
            };
            let findings = facts.judge();
            assert_eq!(findings.len(), usize::from(off), "{skew}");
            if off {
                expect(
                    &findings,
                    "guard and clock",
                    Problem,
                    &format!("{skew:+.1} s off"),
                );
            }
        }
        assert_eq!(EdgeFacts::default().judge(), Vec::new());
    }
}
