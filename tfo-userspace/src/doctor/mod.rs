//! Checks of this host: what prevents Fast Open or the data path from working, and the remedy.
//!
//! Each file has one subject. It reads facts into a plain structure, any of which may be missing, and judges them in
//! functions that read nothing, so that each fault is a unit test.

mod data_path;
mod edge;
mod fast_open;
mod file_system;
mod finding;
mod fix;
mod guard;
mod host;
mod interfaces;
mod listeners;
mod locks;
mod own_cookies;
mod own_routes;
mod policy;

pub use finding::{Finding, SysctlFix, Verdict};
pub use fix::{FixError, Unkept, fixes, has_no_file, keep};

use crate::{
    datapath::Namespace,
    kernel::link::{self, Interface, LinkError},
};

/// Runs all checks in the calling thread's namespace, of the interfaces `names`, or of all that are up where `names` is
/// empty. Takes about a second, and changes nothing: what it makes to try whether that can be made, it removes.
///
/// # Errors
///
/// [`LinkError`] where an interface does not exist, or the kernel does not list them.
pub async fn examine(names: &[String]) -> Result<Vec<Finding>, LinkError> {
    let present = link::list().await?;
    let chosen = choose(names, &present).await?;
    let syn_cookies = fast_open::SynCookieCount::start();
    let privileged = crate::kernel::support::missing_capabilities().is_empty();
    let data_path = data_path::DataPathFacts::read(privileged).await;
    let mut findings = host::HostFacts::read().judge();
    for interface in chosen {
        let facts = interfaces::InterfaceFacts::read(interface, data_path.on(interface.index));
        findings.extend(facts.judge());
    }
    findings.extend(fast_open::FastOpenFacts::read(syn_cookies).await.judge());
    findings.extend(listeners::read_and_judge(privileged));
    findings.extend(data_path.judge());
    // Else the check of what is attached reports that it cannot be read.
    if privileged {
        let locks = Namespace::current()
            .map(|it| locks::LockFacts::read(&it))
            .ok();
        findings.extend(locks.iter().flat_map(locks::LockFacts::judge));
        if locks.is_some_and(|locks| locks.is_held()) {
            findings.push(policy::unread());
        } else {
            findings.extend(policy::read_and_judge().await);
        }
        findings.extend(guard::read_and_judge().await);
        findings.extend(edge::read_and_judge());
        findings.extend(own_cookies::read_and_judge().await);
    }
    Ok(findings)
}

async fn choose<'a>(
    names: &[String],
    present: &'a [Interface],
) -> Result<Vec<&'a Interface>, LinkError> {
    if names.is_empty() {
        return Ok(present
            .iter()
            .filter(|each| each.up && each.name != "lo")
            .collect());
    }
    let mut chosen = Vec::new();
    for name in names {
        match present.iter().find(|each| each.is_named(name)) {
            Some(interface) => chosen.push(interface),
            // Its error lists the interfaces that exist.
            None => drop(link::find(name).await?),
        }
    }
    Ok(chosen)
}
