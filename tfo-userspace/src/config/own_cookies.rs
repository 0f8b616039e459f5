//! The section `[cookies]`.

use std::{path::PathBuf, time::Duration};

use serde::Deserialize;

use super::values::Parsed;
use crate::model::{OwnCookieRules, OwnRulesError};

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
    /// The file of the secret that hosts share; random secrets without it.
    secret_file: Option<PathBuf>,
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
        /// The file of the secret that hosts share; `None` for random ones.
        secret: Option<PathBuf>,
    },
}

impl CookiesSection {
    /// The configuration, or the mistake and its remedy.
    pub(super) fn config(&self) -> Result<OwnCookieConfig, String> {
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
        let default = OwnCookieRules::default();
        let service = self.service.as_deref().map(str::parse).transpose();
        let rules = OwnCookieRules {
            interval: self.interval.map_or(default.interval, |time| time.0),
            lifetime: self.lifetime.map_or(default.lifetime, |time| time.0),
            client_v4: self.client_prefix_v4.unwrap_or(default.client_v4),
            client_v6: self.client_prefix_v6.unwrap_or(default.client_v6),
            service: service.map_err(|error: OwnRulesError| error.to_string())?,
        };
        rules.check().map_err(|error| error.to_string())?;
        Ok(OwnCookieConfig::On {
            rules,
            secret: self.secret_file.clone(),
        })
    }
}
