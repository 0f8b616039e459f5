//! The own cookies of a namespace: puts the configured ones in force, and renews their secrets in each time slot.

use std::path::Path;

use tfo_common::fastopen::own::OwnCookies;
use tracing::{error, info, warn};

use crate::{
    config::{NamespaceConfig, OwnCookieConfig},
    datapath::{LeftOut, Namespace, OwnCookieChange},
    keys::{OwnSecrets, Secret, is_due, ring_now},
    model::{OwnCookieRing, OwnCookieRules},
};

/// Keeps the own cookies of a namespace.
#[derive(Default)]
pub(super) struct OwnCookieKeeper {
    /// Why the configured ones are not in force.
    refused: Option<String>,
    /// The interfaces without them that were logged last.
    left_out: Vec<LeftOut>,
    /// The error of the last tick, which was logged.
    last_error: Option<String>,
}

impl OwnCookieKeeper {
    /// Why the configured ones are not in force, or are not renewed.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.clone().or_else(|| self.last_error.clone())
    }

    /// Puts the configured own cookies in force, or none, if the configuration says either. After a failure, what is in force
    /// stays.
    pub(super) async fn apply(&mut self, namespace: &Namespace, config: &NamespaceConfig) {
        self.refused = match &config.cookies {
            None => None,
            Some(wanted) => self.change(namespace, wanted).await.err(),
        };
        if let Some(error) = &self.refused {
            error!("own cookies: {error}");
        }
    }

    /// Ends own cookies, after their section was removed from the configuration.
    pub(super) async fn clear(&mut self, namespace: &Namespace) {
        if let Err(error) = self.change(namespace, &OwnCookieConfig::Off).await {
            error!("own cookies: {error}");
        }
    }

    async fn change(
        &mut self,
        namespace: &Namespace,
        wanted: &OwnCookieConfig,
    ) -> Result<(), String> {
        let change = OwnCookieChange::begin(namespace).map_err(|error| error.to_string())?;
        let before = change.before.clone();
        let cookies = match wanted {
            OwnCookieConfig::Off => None,
            OwnCookieConfig::On { rules, secret } => {
                Some(make(rules, secret.as_deref(), before.as_deref())?)
            }
        };
        let left_out = change.apply(cookies.as_deref()).await;
        let left_out = left_out.map_err(|error| error.to_string())?;
        match (before, wanted) {
            (None, OwnCookieConfig::On { .. }) => info!("own cookies: in force"),
            (Some(_), OwnCookieConfig::Off) => info!("own cookies: cleared"),
            _ => {}
        }
        if left_out != self.left_out {
            for each in &left_out {
                warn!("no own cookies: {each}");
            }
            self.left_out = left_out;
        }
        Ok(())
    }

    /// Renews the secrets where a time slot began, whoever put them in force. To be called about twice a second.
    pub(super) fn tick(&mut self, namespace: &Namespace, config: &NamespaceConfig) {
        let renewed = renew(namespace, config);
        if let (Ok(Some(rules)), Some(OwnCookieConfig::On { rules: wanted, .. })) =
            (&renewed, &config.cookies)
            && rules == wanted
        {
            self.refused = None;
        }
        let error = renewed.err();
        if let Some(text) = error.as_ref().filter(|_| error != self.last_error) {
            error!("own cookies: {text}");
        }
        self.last_error = error;
    }
}

/// Derived secrets are renewed where the configuration has their file; others reach far ahead. Gives the rules whose secrets
/// were renewed.
fn renew(
    namespace: &Namespace,
    config: &NamespaceConfig,
) -> Result<Option<OwnCookieRules>, String> {
    let in_force = namespace.own_cookies().get();
    let Some(in_force) = in_force.map_err(|error| error.to_string())? else {
        return Ok(None);
    };
    let secret = match &config.cookies {
        Some(OwnCookieConfig::On { secret, .. }) => secret.as_deref(),
        _ => None,
    };
    let is_derived = in_force.derived != 0;
    if !is_due(&in_force) || is_derived != secret.is_some() {
        return Ok(None);
    }
    let change = OwnCookieChange::begin(namespace).map_err(|error| error.to_string())?;
    let Some(before) = change.before.clone() else {
        return Ok(None);
    };
    let rules = OwnCookieRules::of(&before);
    let cookies = make(&rules, secret, Some(&before))?;
    change.renew(&cookies).map_err(|error| error.to_string())?;
    Ok(Some(rules))
}

fn make(
    rules: &OwnCookieRules,
    secret: Option<&Path>,
    before: Option<&OwnCookies>,
) -> Result<OwnCookieRing, String> {
    let secret = secret.map(Secret::read).transpose();
    let secret = secret.map_err(|error| error.to_string())?;
    let secrets = OwnSecrets::of(secret.as_ref());
    ring_now(rules, secrets, before).map_err(|error| format!("getrandom(2): {error}"))
}
