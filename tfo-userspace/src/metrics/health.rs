//! `/healthz`: the errors in the facts of all namespaces.

use std::fmt::{self, Write as _};

use super::facts::{NamespaceFacts, ServiceFacts};
use crate::kernel::netns;

/// As [`health`], of all namespaces of a service.
pub(super) fn health_of_service(service: &ServiceFacts) -> Result<(), String> {
    let mut errors = health(&service.namespaces).err().unwrap_or_default();
    for other in &service.others {
        errors += other.wrong.as_deref().unwrap_or_default();
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

/// `Ok` if no namespace has an error.
///
/// # Errors
///
/// One line for each error: a part that cannot be read, an interface without the program, keys that could not be
/// changed, a policy or a guard that was refused, a farm that cannot be followed.
pub fn health(namespaces: &[NamespaceFacts]) -> Result<(), String> {
    let mut errors = String::new();
    for facts in namespaces {
        let (place, named) = match facts.target.netns.as_str() {
            "" => (String::new(), None),
            name => (format!("netns {name}: "), Some(name.to_owned())),
        };
        // The name of the service's own is looked for where a command needs it.
        let there = || {
            let name = named.clone().or_else(netns::name);
            name.map_or_else(String::new, |name| format!(" --netns {name}"))
        };
        let mut line = |text: fmt::Arguments<'_>| {
            // Writing to a String cannot fail.
            let _ = writeln!(errors, "{place}{text}");
        };
        for (part, error) in &facts.errors {
            line(format_args!("{part}: {error}"));
        }
        for interface in facts.interfaces.iter().filter(|it| it.mode.is_none()) {
            let name = &interface.name;
            if let Some(reason) = facts.not_attached.get(name) {
                line(format_args!("{reason}"));
            } else if facts.target.interfaces.contains(name) {
                line(format_args!(
                    "{name}: not attached: `tfo attach {name}{}`",
                    there()
                ));
            } else {
                line(format_args!(
                    "{name}: its pins are left: `tfo detach --all{}` removes all pins, then attach again to the interfaces to keep",
                    there()
                ));
            }
        }
        if let Some(error) = facts.keys.as_ref().and_then(|it| it.last_error.as_ref()) {
            line(format_args!("keys: {error}"));
        }
        if let Some(error) = &facts.policy_refused {
            line(format_args!("policy not in force: {error}"));
        }
        if let Some(error) = &facts.guard_refused {
            line(format_args!("guard not in force: {error}"));
        }
        if let Some(error) = &facts.own_cookies_refused {
            line(format_args!("own cookies not as configured: {error}"));
        }
        if let Some(error) = &facts.listeners_refused {
            line(format_args!("listeners without Fast Open: {error}"));
        }
        if let Some(error) = facts.farm.as_ref().and_then(|it| it.error.as_ref()) {
            line(format_args!("farm: {error}"));
        }
    }
    if errors.is_empty() {
        Ok(())
    } else {
        Err(errors)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::keys::KeyReport;

    #[test]
    fn health_names_what_is_wrong() {
        let well = NamespaceFacts::default();
        assert_eq!(health(std::slice::from_ref(&well)), Ok(()));
        let mut ill = NamespaceFacts::default();
        ill.target.netns = "blue".to_owned();
        ill.target.interfaces = vec!["eth0".to_owned(), "eth1".to_owned()];
        let renamed = "eth1: renamed to eth9: put eth9 into the configuration";
        ill.not_attached = [("eth1".to_owned(), renamed.to_owned())].into();
        ill.add_missing();
        ill.errors.insert("memory", "no".to_owned());
        ill.keys = Some(KeyReport {
            last_error: Some("sysctl is read-only".to_owned()),
            ..KeyReport::default()
        });
        ill.policy_refused = Some("no".to_owned());
        ill.guard_refused = Some("no".to_owned());
        ill.own_cookies_refused = Some("no".to_owned());
        ill.listeners_refused = Some("no".to_owned());
        assert_eq!(
            health(&[well, ill]).unwrap_err(),
            "netns blue: memory: no\n\
             netns blue: eth0: not attached: `tfo attach eth0 --netns blue`\n\
             netns blue: eth1: renamed to eth9: put eth9 into the configuration\n\
             netns blue: keys: sysctl is read-only\n\
             netns blue: policy not in force: no\n\
             netns blue: guard not in force: no\n\
             netns blue: own cookies not as configured: no\n\
             netns blue: listeners without Fast Open: no\n"
        );
    }
}
