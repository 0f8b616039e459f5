//! The own cookies in force, and the conditions that limit them.

use std::time::Duration;

use super::{
    finding::{Finding, judged},
    own_routes::AnswerRoutes,
};
use crate::{
    datapath::{AttachedInterface, ControllerLock, Namespace, NamespaceError},
    kernel::sysctl,
    keys::own_secrets_left,
    model::OwnCookieRules,
};

const CHECK: &str = "own cookies";
/// Intervals for which there should be secrets.
const FEW: u32 = 20;

/// Facts about the own cookies in force.
#[derive(Debug)]
struct OwnCookieFacts {
    rules: OwnCookieRules,
    /// The attached interfaces without their programs.
    without: Vec<String>,
    routes: AnswerRoutes,
    /// The kernel has a backup key; `None` where its keys cannot be read.
    has_backup: Option<bool>,
    /// A running controller renews the secrets.
    controlled: bool,
    /// The time for which the data path has secrets; `None` where no clock ends it.
    left: Option<Duration>,
}

/// No findings where there are none.
pub(super) async fn read_and_judge() -> Vec<Finding> {
    judged(CHECK, read().await, OwnCookieFacts::judge)
}

async fn read() -> Result<Option<OwnCookieFacts>, NamespaceError> {
    let namespace = Namespace::current()?;
    let Some(cookies) = namespace.own_cookies().get()? else {
        return Ok(None);
    };
    let interfaces = namespace.interfaces().await?;
    let without = interfaces.iter().filter(|interface| {
        interface.mode.is_some() && !namespace.own_cookies().is_issuing(interface.index)
    });
    let key = sysctl::key().ok().flatten();
    Ok(Some(OwnCookieFacts {
        rules: OwnCookieRules::of(&cookies),
        without: without.map(AttachedInterface::label).collect(),
        routes: AnswerRoutes::read(&namespace, &interfaces),
        has_backup: key.map(|pair| pair.backup.is_some()),
        controlled: ControllerLock::of(&namespace).is_some(),
        left: own_secrets_left(&cookies),
    }))
}

impl OwnCookieFacts {
    fn judge(&self) -> Vec<Finding> {
        let OwnCookieRules {
            client_v4,
            client_v6,
            service,
            ..
        } = &self.rules;
        let service = match service {
            Some(service) => format!("service {service}"),
            None => "each server address by itself".to_owned(),
        };
        let mut findings = vec![Finding::ok(
            CHECK,
            format!("in force for clients of one /{client_v4} or /{client_v6}, {service}"),
        )];
        for interface in &self.without {
            let found = "clients get the kernel's cookies there, and own ones that they got elsewhere are refused";
            let remedy = "`tfo cookies set` again, which prints the reason";
            findings.push(
                Finding::warning("own cookies and interface", found)
                    .of(interface)
                    .remedy(remedy),
            );
        }
        findings.extend(self.routes.judge());
        if self.has_backup == Some(false) {
            let found = "the kernel has no backup key: cookies are not renewed in the second half of their life, and each \
                         client loses a round trip when its cookie expires";
            let remedy =
                "`tfo cookies set` again adds one, or `tfo run` with a key source that rotates";
            findings.push(Finding::note("own cookies and keys", found).remedy(remedy));
        }
        // Without a controller, secrets last for many intervals.
        let few = |left| left < FEW * self.rules.interval;
        if !self.controlled && self.left.is_some_and(few) {
            let found = "secrets are left for a short time only, and no controller renews them: clients then get the kernel's cookies";
            findings.push(
                Finding::warning("own cookies' secrets", found)
                    .remedy("tfo run, or `tfo cookies set` again"),
            );
        }
        findings
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> OwnCookieFacts {
        OwnCookieFacts {
            rules: OwnCookieRules::default(),
            without: Vec::new(),
            routes: AnswerRoutes::default(),
            has_backup: Some(true),
            controlled: false,
            left: Some(Duration::from_secs(200 * 86_400)),
        }
    }

    #[test]
    fn what_limits_own_cookies_is_told() {
        assert_eq!(facts().judge().len(), 1);
        let told = |facts: OwnCookieFacts| format!("{:?}", facts.judge());
        let ill = OwnCookieFacts {
            without: vec!["eth1".to_owned()],
            has_backup: Some(false),
            left: Some(Duration::from_secs(86_400)),
            ..facts()
        };
        let text = told(ill);
        for part in ["eth1", "no backup key", "secrets are left for a short time"] {
            assert!(text.contains(part), "{text}");
        }
    }
}
