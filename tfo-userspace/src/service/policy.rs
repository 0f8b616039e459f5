//! The policy that the configuration has for a namespace.

use tracing::{error, info, warn};

use crate::{
    config::NamespaceConfig,
    datapath::{Mirror, Namespace},
    policy::Policy,
};

/// Puts the configured policy in force, if there is one. Gives why that could not be done, which is in the
/// log, too; what was in force before then still is.
pub(super) fn apply(namespace: &Namespace, config: &NamespaceConfig) -> Option<String> {
    let policy = config.policy.as_deref()?;
    if config.settings.mirror == Mirror::Packet {
        warn!(
            "policy: mirror = \"packet\" sees no listener's own keys, nor which listener needs no cookie"
        );
    }
    let refused = policy.check_listeners().map_err(|error| error.to_string());
    match refused.and_then(|()| change(namespace, Some(policy))) {
        Ok(true) => info!("policy: {} rules in force", 1 + policy.ports.len()),
        Ok(false) => {}
        Err(error) => {
            error!("policy: {error}");
            return Some(error);
        }
    }
    None
}

/// Removes the policy in force, which the configuration no longer has.
pub(super) fn clear(namespace: &Namespace) {
    match change(namespace, None) {
        Ok(true) => info!("policy: cleared"),
        Ok(false) => {}
        Err(error) => error!("policy: {error}"),
    }
}

/// Says whether it is another one now.
fn change(namespace: &Namespace, policy: Option<&Policy>) -> Result<bool, String> {
    let change = namespace.policy().change();
    let changed = change.and_then(|change| Ok(change.apply(policy)?));
    changed.map_err(|error| error.to_string())
}
