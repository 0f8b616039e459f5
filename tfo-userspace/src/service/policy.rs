//! Puts the configured policy of a namespace in force.

use tracing::{error, info, warn};

use crate::{
    config::{KeySourceConfig, NamespaceConfig, OwnCookieConfig, OwnSecretsConfig},
    datapath::{self, Namespace},
    kernel::sysctl,
    model::{Mirror, Policy},
    policy::{CookieLives, NoCookieError},
};

/// Puts the configured policy in force, if there is one. Logs and gives the reason of a failure, after which the
/// previous policy stays in force.
pub(super) fn apply(namespace: &Namespace, config: &NamespaceConfig) -> Option<String> {
    let policy = config.policy.as_deref()?;
    if config.settings.mirror == Mirror::Packet {
        warn!(
            "policy: mirror = \"packet\" does not see the keys of listeners, nor which listeners need no cookie"
        );
    }
    let checked = check_listeners(policy).map_err(|error| error.to_string());
    match checked.and_then(|()| change(namespace, Some(policy))) {
        Ok(true) => {
            info!("policy: {} rules in force", 1 + policy.ports.len());
            if let Some(gap) = policy.once_gap(lives(config)) {
                warn!("policy: {gap}");
            }
            if let Some(gap) = policy.once_elsewhere(shares_cookies(config)) {
                warn!("policy: {gap}");
            }
        }
        Ok(false) => {}
        Err(error) => {
            error!("policy: {error}");
            return Some(error);
        }
    }
    None
}

/// Returns the time for which the configured cookies are good.
fn lives(config: &NamespaceConfig) -> CookieLives {
    CookieLives {
        interval: config.source.interval(),
        own: match &config.cookies {
            Some(OwnCookieConfig::On { rules, .. }) => Some(rules.life()),
            Some(OwnCookieConfig::Off) | None => None,
        },
    }
}

/// `true` if other hosts take the cookies that clients are given here.
fn shares_cookies(config: &NamespaceConfig) -> bool {
    match &config.cookies {
        Some(OwnCookieConfig::On { secrets, .. }) => *secrets != OwnSecretsConfig::Random,
        Some(OwnCookieConfig::Off) | None => !matches!(
            config.source,
            KeySourceConfig::Random { .. } | KeySourceConfig::Kernel
        ),
    }
}

/// Clears the policy in force, after its section was removed from the configuration.
pub(super) fn clear(namespace: &Namespace) {
    match change(namespace, None) {
        Ok(true) => info!("policy: cleared"),
        Ok(false) => {}
        Err(error) => error!("policy: {error}"),
    }
}

/// Refuses a policy that rewrites options at listeners that need no cookie. What cannot be read is not checked: the data
/// path passes such SYNs unchanged.
fn check_listeners(policy: &Policy) -> Result<(), NoCookieError> {
    if !policy.needs_cookies() {
        return Ok(());
    }
    let mode = sysctl::mode().unwrap_or(sysctl::Mode(0));
    policy.check_listeners(mode, &datapath::listeners().unwrap_or_default())
}

/// Puts `policy` in force. Gives whether it differs from the previous one.
fn change(namespace: &Namespace, policy: Option<&Policy>) -> Result<bool, String> {
    let change = namespace.policy().change();
    let changed = change.and_then(|change| Ok(change.apply(policy)?));
    changed.map_err(|error| error.to_string())
}
