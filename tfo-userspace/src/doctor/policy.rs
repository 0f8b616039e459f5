//! The policy in force, and whether it can do what it says.

use super::Finding;
use crate::{
    datapath::{Mirror, Namespace, NamespaceError},
    policy::{NoCookieError, Policy},
};

const CHECK: &str = "policy";

/// Facts about a policy in force.
#[derive(Debug)]
struct Facts {
    rules: usize,
    /// Those that only count.
    dry_run: usize,
    refused: Option<NoCookieError>,
    /// Interfaces where the data path sees nothing but packets.
    packet: Vec<String>,
}

/// Nothing where there is no policy.
pub(super) async fn read_and_judge(privileged: bool) -> Vec<Finding> {
    if !privileged {
        // What is attached is told as unknown already.
        return Vec::new();
    }
    match read().await {
        Ok(Some(facts)) => facts.judge(),
        Ok(None) | Err(NamespaceError::NothingAttached) => Vec::new(),
        Err(error) => vec![Finding::unknown(CHECK, error.to_string())],
    }
}

async fn read() -> Result<Option<Facts>, NamespaceError> {
    let namespace = Namespace::current()?;
    let Some(policy) = namespace.policy().get()? else {
        return Ok(None);
    };
    let interfaces = namespace.interfaces().await?.into_iter();
    let packet = interfaces.filter(|interface| interface.mirror == Mirror::Packet);
    let packet = packet.map(|interface| interface.label()).collect();
    Ok(Some(Facts::of(
        &policy,
        policy.check_listeners().err(),
        packet,
    )))
}

impl Facts {
    fn of(policy: &Policy, refused: Option<NoCookieError>, packet: Vec<String>) -> Self {
        let rules = || std::iter::once(&policy.default).chain(policy.ports.values());
        Self {
            rules: rules().count(),
            dry_run: rules().filter(|rule| rule.dry_run).count(),
            refused,
            packet,
        }
    }

    fn judge(&self) -> Vec<Finding> {
        let Self { rules, dry_run, .. } = self;
        let noun = if *rules == 1 { "rule" } else { "rules" };
        let mut findings = vec![if *dry_run == 0 {
            Finding::ok(CHECK, format!("{rules} {noun} in force"))
        } else {
            Finding::note(CHECK, format!("{dry_run} of {rules} rules only count what they would do"))
                .remedy("tfo policy set [--port PORT] --dry-run=false, once `tfo stats` shows no honest client")
        }];
        if let Some(refused) = &self.refused {
            let finding = Finding::warning("policy without cookies", refused.found());
            findings.push(finding.remedy(refused.remedy()));
        }
        findings.extend(self.packet.iter().map(|interface| {
            let found = "a policy goes by the packet alone here: a listener's own keys are not seen, and their \
                         cookies are bad ones to it";
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
            let refused = policy.check_against(Mode(0x203), &[]).err();
            Facts::of(policy, refused, packet).judge()
        };
        expect(&judge(&policy, Vec::new()), CHECK, Fine, "1 rule in force");
        policy.default.actions[Class::Bad as usize] = Action::Reissue;
        policy.default.dry_run = true;
        let findings = judge(&policy, vec!["eth0".to_owned()]);
        expect(&findings, CHECK, Note, "1 of 1 rules only count");
        expect(&findings, "policy without cookies", Warning, "0x200");
        expect(&findings, "policy and mirror", Warning, "own keys");
    }
}
