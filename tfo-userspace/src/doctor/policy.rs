//! The policy in force, and the conditions that limit it.

use super::finding::{Finding, judged};
use crate::{
    datapath::{self, Namespace, NamespaceError},
    kernel::sysctl,
    model::{Mirror, Policy},
    policy::{CookieLives, NoCookieError},
};

const CHECK: &str = "policy";

/// Facts about the policy in force.
#[derive(Debug)]
struct PolicyFacts {
    rules: usize,
    /// Rules in dry run.
    dry_run: usize,
    refused: Option<NoCookieError>,
    /// Interfaces with the packet mirror.
    packet: Vec<String>,
    /// Why data may be taken again under the action `once`.
    once_gap: Option<String>,
}

/// No findings where there is no policy.
pub(super) async fn read_and_judge() -> Vec<Finding> {
    judged(CHECK, read().await, PolicyFacts::judge)
}

/// The finding where another process has the lock under which the policy is read.
pub(super) fn unread() -> Finding {
    Finding::unknown(CHECK, "not read: another process holds the lock")
}

async fn read() -> Result<Option<PolicyFacts>, NamespaceError> {
    let namespace = Namespace::current()?;
    let Some(policy) = namespace.policy().get()? else {
        return Ok(None);
    };
    let interfaces = namespace.interfaces().await?.into_iter();
    let packet = interfaces.filter(|interface| interface.mirror == Mirror::Packet);
    let packet = packet.map(|interface| interface.label()).collect();
    Ok(Some(PolicyFacts::of(
        &policy,
        check_listeners(&policy),
        packet,
        CookieLives::in_force(&namespace)?,
    )))
}

/// Why a rule does not fit a listener. What cannot be read is not checked.
fn check_listeners(policy: &Policy) -> Option<NoCookieError> {
    if !policy.needs_cookies() {
        return None;
    }
    let mode = sysctl::mode().unwrap_or(sysctl::Mode(0));
    let listeners = datapath::listeners().unwrap_or_default();
    policy.check_listeners(mode, &listeners).err()
}

impl PolicyFacts {
    fn of(
        policy: &Policy,
        refused: Option<NoCookieError>,
        packet: Vec<String>,
        lives: CookieLives,
    ) -> Self {
        Self {
            rules: policy.port_policies().count(),
            dry_run: policy.port_policies().filter(|rule| rule.dry_run).count(),
            refused,
            packet,
            once_gap: policy.once_gap(lives),
        }
    }

    fn judge(&self) -> Vec<Finding> {
        let Self { rules, dry_run, .. } = self;
        let noun = if *rules == 1 { "rule" } else { "rules" };
        let mut findings = vec![if *dry_run == 0 {
            Finding::ok(CHECK, format!("{rules} {noun} in force"))
        } else {
            Finding::note(CHECK, format!("{dry_run} of {rules} rules are a dry run: they only count what they would do"))
                .remedy("tfo policy set [--port PORT] --dry-run=false, once `tfo stats` shows that no honest client is affected")
        }];
        if let Some(refused) = &self.refused {
            let finding = Finding::warning("policy without cookies", refused.found());
            findings.push(finding.remedy(refused.remedy()));
        }
        if let Some(gap) = &self.once_gap {
            findings.push(Finding::note("at most once", gap));
        }
        findings.extend(self.packet.iter().map(|interface| {
            let found = "with the packet mirror, the policy does not see the keys of listeners: cookies of a listener's own keys \
                         count as bad";
            Finding::warning("policy and mirror", found)
                .remedy(format!("tfo attach --replace {interface}, with the exact mirror"))
                .of(interface)
        }));
        findings
    }
}

#[cfg(test)]
mod tests {
    use tfo_common::policy::{Action, Class};

    use super::*;
    use crate::{
        doctor::{
            Verdict::{Note, Ok as Fine, Warning},
            finding::testing::expect,
        },
        kernel::sysctl::Mode,
    };

    #[test]
    fn what_a_policy_cannot_do_is_named() {
        let mut policy = Policy::default();
        let judge = |policy: &Policy, packet| {
            let refused = policy.check_listeners(Mode(0x203), &[]).err();
            PolicyFacts::of(policy, refused, packet, CookieLives::default()).judge()
        };
        expect(&judge(&policy, Vec::new()), CHECK, Fine, "1 rule in force");
        policy.default.actions[Class::Bad as usize] = Action::Reissue;
        policy.default.dry_run = true;
        let findings = judge(&policy, vec!["eth0".to_owned()]);
        expect(&findings, CHECK, Note, "1 of 1 rules are a dry run");
        expect(&findings, "policy without cookies", Warning, "0x200");
        expect(&findings, "policy and mirror", Warning, "own keys");
    }
}
