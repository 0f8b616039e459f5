//! What on this host keeps Fast Open, or the data path, from working, and what to do about it.
//!
//! Each file looks at one side of it. It reads facts into a plain structure, which can fail in part, and
//! judges them in functions that read nothing: what comes of each fault is a unit test.

mod attached;
mod fast_open;
mod finding;
mod guard;
mod host;
mod interfaces;
mod listeners;
mod policy;

pub use finding::{Finding, Verdict};

use crate::kernel::link::{self, Interface, LinkError};

/// Looks at everything, in the calling thread's namespace: at the interfaces of these names, or, where
/// there are none, at all that are up. It takes about a second and changes nothing.
///
/// # Errors
///
/// [`LinkError`] where there is no such interface, or the kernel does not list them.
pub async fn examine(names: &[String]) -> Result<Vec<Finding>, LinkError> {
    let present = link::list().await?;
    let chosen = choose(names, &present).await?;
    let cookies = fast_open::CookieWatch::start();
    let privileged = crate::kernel::support::missing_capabilities().is_empty();
    let attached = attached::Attached::read(privileged).await;
    let mut findings = host::Host::read().judge();
    for interface in chosen {
        let facts = interfaces::Facts::read(interface, attached.on(interface.index));
        findings.extend(facts.judge());
    }
    findings.extend(fast_open::FastOpen::read(cookies).await.judge());
    findings.extend(listeners::read_and_judge(privileged));
    findings.extend(attached.judge());
    findings.extend(policy::read_and_judge(privileged).await);
    findings.extend(guard::read_and_judge(privileged).await);
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
        match present.iter().find(|each| each.name == *name) {
            Some(interface) => chosen.push(interface),
            // Not there: this says which are.
            None => drop(link::find(name).await?),
        }
    }
    Ok(chosen)
}
