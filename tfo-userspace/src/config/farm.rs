//! The section `[farm]`.

use std::{ops::Range, path::PathBuf, time::Duration};

use rustix::system::uname;
use serde::Deserialize;
use toml::Spanned;

use super::{layer::DEFAULT_INTERVAL, values::Parsed};
use crate::farm::FarmConfig;

const DEFAULT_PREFIX: &str = "/tfo/";
const DEFAULT_STATE: &str = "/var/lib/tfo";
const DEFAULT_PATIENCE: Duration = Duration::from_secs(600);
/// Most characters of a host's name.
const MAX_HOST_LEN: usize = 128;

/// `[farm]`.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct FarmSection {
    endpoints: Spanned<Vec<String>>,
    prefix: Option<Spanned<String>>,
    host: Option<Spanned<String>>,
    user: Option<Spanned<String>>,
    password: Option<Spanned<PathBuf>>,
    ca: Option<PathBuf>,
    certificate: Option<Spanned<PathBuf>>,
    key: Option<Spanned<PathBuf>>,
    seal: Option<PathBuf>,
    state: Option<PathBuf>,
    patience: Option<Parsed<Duration>>,
    least_epoch: Option<u64>,
}

/// The bytes of a mistake, and a message with its remedy.
type SpannedMessage = (Range<usize>, String);

impl FarmSection {
    /// The farm, or the first mistake.
    pub(super) fn config(&self) -> Result<FarmConfig, SpannedMessage> {
        let user = both(
            (self.user.as_ref(), "user"),
            (self.password.as_ref(), "password", "the file that holds it"),
        )?;
        let certificate = both(
            (self.certificate.as_ref(), "certificate"),
            (self.key.as_ref(), "key", "the file of its private key"),
        )?;
        Ok(FarmConfig {
            endpoints: self.endpoints()?,
            prefix: self.prefix()?,
            host: self.host()?,
            user,
            ca: self.ca.clone(),
            certificate,
            seal: self.seal.clone(),
            state: self.state.clone().unwrap_or(DEFAULT_STATE.into()),
            interval: DEFAULT_INTERVAL,
            patience: self.patience.map_or(DEFAULT_PATIENCE, |it| it.0),
            least_epoch: self.least_epoch,
        })
    }

    fn endpoints(&self) -> Result<Vec<String>, SpannedMessage> {
        let endpoints = self.endpoints.get_ref();
        let wrong = |message: String| Err((self.endpoints.span(), message));
        let schemes = ["https://", "http://"];
        let is = |endpoint: &String, scheme: &str| {
            let rest = endpoint.strip_prefix(scheme);
            rest.is_some_and(|rest| rest.contains(':') && !rest.contains('/'))
        };
        let valid = |endpoint: &&String| schemes.iter().any(|scheme| is(endpoint, scheme));
        if let Some(odd) = endpoints.iter().find(|it| !valid(it)) {
            return wrong(format!(
                "{odd:?} is no endpoint of etcd: write https://HOST:PORT, as in \"https://192.0.2.5:2379\""
            ));
        }
        // etcd-client uses TLS for all endpoints or for none.
        let alike = |scheme| endpoints.iter().all(|it| is(it, scheme));
        if endpoints.is_empty() || !schemes.into_iter().any(alike) {
            return wrong(
                "name at least one endpoint of etcd; all by https, or all by http".to_owned(),
            );
        }
        let secrets = self.ca.is_some() || self.certificate.is_some();
        if secrets && alike("http://") {
            return wrong("ca and certificate are for https: write https://HOST:PORT".to_owned());
        }
        Ok(endpoints.clone())
    }

    fn prefix(&self) -> Result<String, SpannedMessage> {
        let Some(prefix) = &self.prefix else {
            return Ok(DEFAULT_PREFIX.to_owned());
        };
        let text = prefix.get_ref();
        if text.len() < 2 || !text.ends_with('/') || text.contains(char::is_whitespace) {
            let message =
                format!("prefix {text:?} must end in a slash, and hold no space, as in \"/tfo/\"");
            return Err((prefix.span(), message));
        }
        Ok(text.clone())
    }

    fn host(&self) -> Result<String, SpannedMessage> {
        let Some(host) = &self.host else {
            return Ok(uname().nodename().to_string_lossy().into_owned());
        };
        let name = host.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
        if name.is_empty()
            || name.len() > MAX_HOST_LEN
            || !name.chars().all(plain)
            || name.starts_with('.')
        {
            let message =
                format!("{name:?} cannot be a host's name: use letters, digits, and - . _ @");
            return Err((host.span(), message));
        }
        Ok(name.clone())
    }
}

/// Two values that must be given together or not at all.
fn both<A: Clone, B: Clone>(
    (one, name): (Option<&Spanned<A>>, &str),
    (other, other_name, other_is): (Option<&Spanned<B>>, &str, &str),
) -> Result<Option<(A, B)>, SpannedMessage> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one.get_ref().clone(), other.get_ref().clone()))),
        (None, None) => Ok(None),
        (Some(one), None) => Err((
            one.span(),
            format!("{name} goes with {other_name}, {other_is}: add it"),
        )),
        (None, Some(other)) => Err((
            other.span(),
            format!("{other_name} goes with {name}: add it"),
        )),
    }
}

/// The farm name of `host` in a namespace other than the service's own: `HOST@NAMESPACE`.
pub(super) fn host_in_namespace(host: &str, netns: &str) -> String {
    let name = netns.rsplit('/').find(|part| !part.is_empty());
    format!("{host}@{}", name.unwrap_or(netns))
}
