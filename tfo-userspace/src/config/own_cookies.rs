//! The section `[cookies]`.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::{key_source::KeySourceConfig, values::Parsed};
use crate::model::{OwnCookieRules, OwnRulesError};

/// Intervals of a lifetime that is not configured.
const LIFETIME: u32 = 14;

/// Whose cookies clients get.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum CookieMode {
    /// Own ones, which the data path translates.
    #[default]
    Own,
    /// The kernel's.
    Kernel,
}

/// The source of the secrets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
enum SecretsKind {
    Random,
    Secret,
    File,
    Etcd,
}

/// `[cookies]`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "kebab-case")]
pub(super) struct CookiesSection {
    mode: CookieMode,
    /// The time for which one secret issues cookies.
    interval: Option<Parsed<Duration>>,
    /// The time for which a cookie is good.
    lifetime: Option<Parsed<Duration>>,
    /// Bits of the prefixes whose addresses share cookies.
    client_prefix_v4: Option<u8>,
    client_prefix_v6: Option<u8>,
    /// The name under which hosts and addresses share cookies.
    service: Option<String>,
    /// The source of the secrets.
    source: Option<SecretsKind>,
    /// The file of the sources `secret` and `file`.
    path: Option<PathBuf>,
}

/// The configured source of secrets.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnSecretsConfig {
    /// Made by this host.
    Random,
    /// Derived from the secret in this file.
    Secret(PathBuf),
    /// In this file, which another program writes.
    File(PathBuf),
    /// In the document of the farm, which is the source of the keys, too.
    Etcd,
}

/// The configured own cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum OwnCookieConfig {
    /// None: clients get the kernel's.
    Off,
    /// By these rules.
    On {
        /// The rules.
        rules: OwnCookieRules,
        /// The source of their secrets.
        secrets: OwnSecretsConfig,
    },
}

impl CookiesSection {
    /// The configuration, or the mistake and its remedy. `keys` is the source of the namespace's keys.
    pub(super) fn config(&self, keys: &KeySourceConfig) -> Result<OwnCookieConfig, String> {
        if self.mode == CookieMode::Kernel {
            let bare = Self {
                mode: CookieMode::Kernel,
                ..Self::default()
            };
            if *self != bare {
                return Err(
                    "mode = \"kernel\" has no rules: remove the others, or the mode".into(),
                );
            }
            return Ok(OwnCookieConfig::Off);
        }
        let secrets = self.secrets()?;
        let interval = self.interval(&secrets, keys)?;
        let service = self.service.as_deref().map(str::parse).transpose();
        let default = OwnCookieRules::default();
        let rules = OwnCookieRules {
            interval,
            lifetime: match self.lifetime {
                Some(time) => time.0,
                None => interval * LIFETIME,
            },
            client_v4: self.client_prefix_v4.unwrap_or(default.client_v4),
            client_v6: self.client_prefix_v6.unwrap_or(default.client_v6),
            service: service.map_err(|error: OwnRulesError| error.to_string())?,
        };
        let checked = match secrets {
            OwnSecretsConfig::Random | OwnSecretsConfig::Secret(_) => rules.check(),
            OwnSecretsConfig::File(_) | OwnSecretsConfig::Etcd => rules.check_without_clock(),
        };
        checked.map_err(|error| error.to_string())?;
        Ok(OwnCookieConfig::On { rules, secrets })
    }

    fn secrets(&self) -> Result<OwnSecretsConfig, String> {
        let file = |name| {
            self.path.clone().ok_or_else(|| {
                format!("source \"{name}\" is a file: name it, as in path = \"/etc/tfo/cookies\"")
            })
        };
        let secrets = match self.source.unwrap_or(SecretsKind::Random) {
            SecretsKind::Secret => OwnSecretsConfig::Secret(file("secret")?),
            SecretsKind::File => OwnSecretsConfig::File(file("file")?),
            SecretsKind::Random => OwnSecretsConfig::Random,
            SecretsKind::Etcd => OwnSecretsConfig::Etcd,
        };
        let reads = matches!(
            secrets,
            OwnSecretsConfig::Secret(_) | OwnSecretsConfig::File(_)
        );
        if self.path.is_some() && !reads {
            return Err(
                "path is for the sources \"secret\" and \"file\": add source, or remove path"
                    .into(),
            );
        }
        Ok(secrets)
    }

    /// The time for which a secret issues cookies: in a farm, that of a key.
    fn interval(
        &self,
        secrets: &OwnSecretsConfig,
        keys: &KeySourceConfig,
    ) -> Result<Duration, String> {
        let own = self.interval.map(|time| time.0);
        match (secrets, keys) {
            (OwnSecretsConfig::Etcd, KeySourceConfig::Etcd(farm)) => match own {
                None => Ok(farm.interval),
                Some(_) => Err(
                    "with source \"etcd\", secrets change with the farm's keys: remove interval; that of [keys] holds".into(),
                ),
            },
            (OwnSecretsConfig::Etcd, _) => Err(
                "source \"etcd\" has the secrets of a farm: set source = \"etcd\" in [keys], too, and add a section [farm]".into(),
            ),
            _ => Ok(own.unwrap_or(OwnCookieRules::default().interval)),
        }
    }
}
