//! The section of the file that says which farm this host is of.

use std::{ops::Range, path::PathBuf};

use rustix::system::uname;
use serde::Deserialize;
use toml::Spanned;

use super::{DEFAULT_INTERVAL, file::Interval};
use crate::farm::FarmConfig;

const DEFAULT_PREFIX: &str = "/tfo/";
const DEFAULT_STATE: &str = "/var/lib/tfo";
/// How long a rotation waits for a host.
const DEFAULT_PATIENCE: std::time::Duration = std::time::Duration::from_secs(600);
/// Characters of a host's name, at most.
const MAX_NAME: usize = 128;

/// The section, as it is written.
#[derive(Deserialize)]
#[serde(deny_unknown_fields, rename_all = "kebab-case")]
pub(super) struct Section {
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
    patience: Option<Interval>,
}

/// Where something is wrong, and what.
type Mistake = (Range<usize>, String);

impl Section {
    /// What it says, or the first thing that is wrong.
    pub(super) fn config(&self) -> Result<FarmConfig, Mistake> {
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
        })
    }

    fn endpoints(&self) -> Result<Vec<String>, Mistake> {
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
        // etcd-client takes certificates for all of them or for none.
        let alike = |scheme| endpoints.iter().all(|it| is(it, scheme));
        if endpoints.is_empty() || !schemes.into_iter().any(alike) {
            return wrong(
                "name at least one endpoint of etcd, and all by https or all by http".to_owned(),
            );
        }
        let secrets = self.ca.is_some() || self.certificate.is_some();
        if secrets && alike("http://") {
            return wrong("ca and certificate are for https: write https://HOST:PORT".to_owned());
        }
        Ok(endpoints.clone())
    }

    fn prefix(&self) -> Result<String, Mistake> {
        let Some(prefix) = &self.prefix else {
            return Ok(DEFAULT_PREFIX.to_owned());
        };
        let text = prefix.get_ref();
        if text.len() < 2 || !text.ends_with('/') || text.contains(char::is_whitespace) {
            let message = format!("prefix {text:?} has to end in a slash, as in \"/tfo/\"");
            return Err((prefix.span(), message));
        }
        Ok(text.clone())
    }

    fn host(&self) -> Result<String, Mistake> {
        let Some(host) = &self.host else {
            return Ok(uname().nodename().to_string_lossy().into_owned());
        };
        let name = host.get_ref();
        let plain = |c: char| c.is_ascii_alphanumeric() || "-._@".contains(c);
        if name.is_empty()
            || name.len() > MAX_NAME
            || !name.chars().all(plain)
            || name.starts_with('.')
        {
            let message = format!(
                "{name:?} cannot be a host's name: letters, digits, and - . _ @ between them"
            );
            return Err((host.span(), message));
        }
        Ok(name.clone())
    }
}

/// Two things that are said together, or not at all.
fn both<A: Clone, B: Clone>(
    (one, name): (Option<&Spanned<A>>, &str),
    (other, other_name, what): (Option<&Spanned<B>>, &str, &str),
) -> Result<Option<(A, B)>, Mistake> {
    match (one, other) {
        (Some(one), Some(other)) => Ok(Some((one.get_ref().clone(), other.get_ref().clone()))),
        (None, None) => Ok(None),
        (Some(one), None) => Err((
            one.span(),
            format!("{name} goes with {other_name}, {what}: add it"),
        )),
        (None, Some(other)) => Err((
            other.span(),
            format!("{other_name} goes with {name}: add it"),
        )),
    }
}

/// The name of a host in a network namespace that is not the service's own.
pub(super) fn host_in(host: &str, netns: &str) -> String {
    let name = netns.rsplit('/').find(|part| !part.is_empty());
    format!("{host}@{}", name.unwrap_or(netns))
}
