//! The own cookies of a namespace: puts the configured ones in force, and renews their secrets when others are due.

use tfo_common::fastopen::own::{OwnCookies, OwnSecretSource};
use tracing::{error, info, warn};

use super::repeated::log_new;
use crate::{
    config::{NamespaceConfig, OwnCookieConfig, OwnSecretsConfig},
    datapath::{LeftOut, Namespace, OwnCookieChange},
    farm::{Membership, OwnCookiesTaken},
    keys::{GivenSecrets, OwnSecrets, Secret, has_given, is_due, ring_now},
    model::{OwnCookieRing, OwnCookieRules},
};

/// Keeps the own cookies of a namespace.
#[derive(Default)]
pub(super) struct OwnCookieKeeper {
    /// Why the configured ones are not in force.
    refused: Option<String>,
    /// True if that is because their secrets could not be read.
    lacks_secrets: bool,
    /// The interfaces without them that were logged last.
    left_out: Vec<LeftOut>,
    /// The error of the last tick, which was logged.
    last_error: Option<String>,
    /// The given secrets that were put in force last.
    given: Option<GivenSecrets>,
}

/// The configured secrets, as they are at this moment.
enum Secrets {
    Random,
    Derived(Secret),
    Given(OwnSecretSource, GivenSecrets),
}

impl Secrets {
    fn as_source(&self) -> OwnSecrets<'_> {
        match self {
            Self::Random => OwnSecrets::Random,
            Self::Derived(secret) => OwnSecrets::Derived(secret),
            Self::Given(source, given) => OwnSecrets::Given(*source, given),
        }
    }

    /// By `rules` as the data path holds them.
    fn ring(
        &self,
        rules: &OwnCookieRules,
        before: Option<&OwnCookies>,
    ) -> Result<OwnCookieRing, String> {
        ring_now(rules, self.as_source(), before).map_err(|error| format!("getrandom(2): {error}"))
    }

    fn given(&self) -> Option<&GivenSecrets> {
        match self {
            Self::Given(_, given) => Some(given),
            _ => None,
        }
    }
}

impl OwnCookieKeeper {
    /// Why the configured ones are not in force, or are not renewed.
    pub(super) fn refused(&self) -> Option<String> {
        self.refused.clone().or_else(|| self.last_error.clone())
    }

    /// Puts the configured own cookies in force, or none, if the configuration says either. After a failure, what is in force
    /// stays.
    pub(super) async fn apply(
        &mut self,
        namespace: &Namespace,
        config: &NamespaceConfig,
        farm: Option<&Membership>,
    ) {
        let error = match &config.cookies {
            None => None,
            Some(wanted) => self.change(namespace, wanted, farm).await.err(),
        };
        log_new(&mut self.refused, "own cookies", error);
        report(namespace, config, farm);
    }

    /// As [`Self::apply`], where that lacked secrets that are there by now: the file's, or the farm's.
    pub(super) async fn retry(
        &mut self,
        namespace: &Namespace,
        config: &NamespaceConfig,
        farm: Option<&Membership>,
    ) {
        if self.lacks_secrets
            && let Some(OwnCookieConfig::On { rules, secrets }) = &config.cookies
            && read(secrets, rules, farm).is_ok()
        {
            self.apply(namespace, config, farm).await;
        }
    }

    /// Ends own cookies, after their section was removed from the configuration.
    pub(super) async fn clear(
        &mut self,
        namespace: &Namespace,
        config: &NamespaceConfig,
        farm: Option<&Membership>,
    ) {
        if let Err(error) = self.change(namespace, &OwnCookieConfig::Off, farm).await {
            error!("own cookies: {error}");
        }
        report(namespace, config, farm);
    }

    async fn change(
        &mut self,
        namespace: &Namespace,
        wanted: &OwnCookieConfig,
        farm: Option<&Membership>,
    ) -> Result<(), String> {
        let change = OwnCookieChange::begin(namespace).map_err(|error| error.to_string())?;
        let before = change.before.clone();
        let (cookies, given) = match wanted {
            OwnCookieConfig::Off => {
                self.lacks_secrets = false;
                (None, None)
            }
            OwnCookieConfig::On { rules, secrets } => {
                let secrets = read(secrets, rules, farm);
                self.lacks_secrets = secrets.is_err();
                let secrets = secrets?;
                let ring = secrets.ring(rules, before.as_deref())?;
                (Some(ring), secrets.given().cloned())
            }
        };
        let left_out = change.apply(cookies.as_deref()).await;
        let left_out = left_out.map_err(|error| error.to_string())?;
        self.given = given;
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

    /// Renews the secrets where others are due, whoever put them in force. To be called about twice a second, and when the farm
    /// may have others.
    pub(super) fn tick(
        &mut self,
        namespace: &Namespace,
        config: &NamespaceConfig,
        farm: Option<&Membership>,
    ) {
        let renewed = self.renew(namespace, config, farm);
        if let (Ok(Some(rules)), Some(OwnCookieConfig::On { rules: wanted, .. })) =
            (&renewed, &config.cookies)
            && rules == wanted
        {
            self.refused = None;
        }
        // Somebody else may have cleared them.
        if farm_rules(config).is_some() {
            report(namespace, config, farm);
        }
        log_new(&mut self.last_error, "own cookies", renewed.err());
    }

    /// Secrets that are not random are renewed where the configuration has their source; others reach far ahead. Gives the rules
    /// whose secrets were renewed.
    fn renew(
        &mut self,
        namespace: &Namespace,
        config: &NamespaceConfig,
        farm: Option<&Membership>,
    ) -> Result<Option<OwnCookieRules>, String> {
        let in_force = namespace.own_cookies().get();
        let Some(in_force) = in_force.map_err(|error| error.to_string())? else {
            return Ok(None);
        };
        let source = OwnSecretSource::from_number(in_force.source);
        let rules = OwnCookieRules::of(&in_force);
        let secrets = match &config.cookies {
            Some(OwnCookieConfig::On { secrets, .. }) if source_of(secrets) == source => secrets,
            _ if source == OwnSecretSource::Random => &OwnSecretsConfig::Random,
            _ => return Ok(None),
        };
        let by_clock = matches!(
            secrets,
            OwnSecretsConfig::Random | OwnSecretsConfig::Secret(_)
        );
        if by_clock && !is_due(&in_force) {
            return Ok(None);
        }
        let secrets = read(secrets, &rules, farm)?;
        if let Some(given) = secrets.given()
            && self.given.as_ref() == Some(given)
            && has_given(&in_force, given)
        {
            return Ok(None);
        }
        let change = OwnCookieChange::begin(namespace).map_err(|error| error.to_string())?;
        let Some(before) = change.before.clone() else {
            return Ok(None);
        };
        let rules = OwnCookieRules::of(&before);
        let cookies = secrets.ring(&rules, Some(&before))?;
        change.renew(&cookies).map_err(|error| error.to_string())?;
        if let (Some(old), Some(new)) = (&self.given, secrets.given())
            && !new.follows(old)
        {
            warn!(
                "own cookies: a number has another secret than before, or the numbers went back: clients with cookies of it lose a round trip each"
            );
        }
        self.given = secrets.given().cloned();
        Ok(Some(rules))
    }
}

/// Reads the configured secrets.
fn read(
    secrets: &OwnSecretsConfig,
    rules: &OwnCookieRules,
    farm: Option<&Membership>,
) -> Result<Secrets, String> {
    match secrets {
        OwnSecretsConfig::Random => Ok(Secrets::Random),
        OwnSecretsConfig::Secret(path) => Secret::read(path)
            .map(Secrets::Derived)
            .map_err(|error| error.to_string()),
        OwnSecretsConfig::File(path) => GivenSecrets::read(path)
            .map(|given| Secrets::Given(OwnSecretSource::File, given))
            .map_err(|error| error.to_string()),
        OwnSecretsConfig::Etcd => farm
            .and_then(|farm| farm.own_secrets(&rules.digest()))
            .map(|(_, given)| Secrets::Given(OwnSecretSource::Etcd, given))
            .ok_or_else(|| {
                "the farm has given this host no secrets yet: it has not joined, or its document is of an earlier version, whose next rotation brings them (`tfo farm status`)".to_owned()
            }),
    }
}

const fn source_of(secrets: &OwnSecretsConfig) -> OwnSecretSource {
    match secrets {
        OwnSecretsConfig::Random => OwnSecretSource::Random,
        OwnSecretsConfig::Secret(_) => OwnSecretSource::Secret,
        OwnSecretsConfig::File(_) => OwnSecretSource::File,
        OwnSecretsConfig::Etcd => OwnSecretSource::Etcd,
    }
}

/// The configured rules of own cookies with the farm's secrets.
const fn farm_rules(config: &NamespaceConfig) -> Option<&OwnCookieRules> {
    match &config.cookies {
        Some(OwnCookieConfig::On {
            rules,
            secrets: OwnSecretsConfig::Etcd,
        }) => Some(rules),
        _ => None,
    }
}

/// Tells the farm which own cookies the data path takes. Where it takes older ones than the farm's, the farm waits.
fn report(namespace: &Namespace, config: &NamespaceConfig, farm: Option<&Membership>) {
    let Some(farm) = farm else { return };
    let in_force = namespace.own_cookies().get().ok().flatten();
    let in_force = in_force.filter(|it| it.source == OwnSecretSource::Etcd as u64);
    let taken = match (farm_rules(config), in_force) {
        (Some(wanted), Some(in_force)) => {
            let digest = OwnCookieRules::of(&in_force).digest();
            match farm.own_secrets(&digest) {
                Some((step, given))
                    if digest == wanted.digest() && has_given(&in_force, &given) =>
                {
                    OwnCookiesTaken::Taken {
                        step,
                        rules: digest,
                    }
                }
                _ => OwnCookiesTaken::Pending,
            }
        }
        _ => OwnCookiesTaken::None,
    };
    farm.report_own_cookies(taken);
}
