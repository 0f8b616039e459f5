//! Loads a configuration: the file, with the flags above it.

use std::path::{Path, PathBuf};

use toml::Spanned;

use super::{
    error::ConfigError,
    file::{File, PolicyFile},
    layer::Layer,
    namespace::{NamespaceConfig, farm, namespaces, policy},
    text::{ConfigText, read, read_owned},
};
use crate::{
    farm::FarmConfig,
    model::{ListenAddress, MAX_METRIC_PORTS, Policy},
};

/// The flags of `tfo run`. They override the top level of the file, but not the sections of its namespaces.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Interfaces, instead of the file's.
    pub interfaces: Vec<String>,
    /// Settings of namespaces.
    pub layer: Layer,
    /// Ports that metrics name, instead of the file's.
    pub ports: Vec<u16>,
    /// The address at which metrics are served.
    pub metrics: Option<ListenAddress>,
    /// Detach when the service stops.
    pub detach_on_exit: bool,
}

/// The configuration of the service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The network namespaces to control; at least one.
    pub namespaces: Vec<NamespaceConfig>,
    /// Detach when the service stops.
    pub detach_on_exit: bool,
    /// The ports that metrics name one by one; at most [`MAX_METRIC_PORTS`].
    pub ports: Vec<u16>,
    /// The address at which metrics are served; `None` for no metrics.
    pub metrics: Option<ListenAddress>,
}

/// The origin of a configuration: the file, if any, and the flags, which override its top level.
#[derive(Clone, Debug, Default)]
pub struct ConfigSource {
    /// The file.
    pub path: Option<PathBuf>,
    /// The flags.
    pub flags: Flags,
}

impl ConfigSource {
    /// Reads the file's text.
    ///
    /// # Errors
    ///
    /// [`ConfigError`] where it cannot be read, or others may write it.
    pub fn read(&self) -> Result<String, ConfigError> {
        self.path.as_deref().map_or(Ok(String::new()), read_owned)
    }

    /// The configuration of this text of the file. Reads the files that it names.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with the line of the mistake.
    pub fn parse(&self, text: &str) -> Result<Config, ConfigError> {
        let mut config = Config::parse(text, self.path.as_deref(), &self.flags)?;
        for namespace in &mut config.namespaces {
            namespace.source.check()?;
            namespace.read_lists()?;
        }
        Ok(config)
    }
}

impl Config {
    /// Parses `text` and applies `flags`, without reading the files that it names. `path` is for errors.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`].
    pub fn parse(text: &str, path: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let text = ConfigText { text, path };
        let file: File = text.parse()?;
        let namespaces = namespaces(&text, &file, &flags.interfaces, &flags.layer)?;
        let ports = if flags.ports.is_empty() {
            ports(&text, &file)?
        } else {
            flags.ports.clone()
        };
        if ports.len() > MAX_METRIC_PORTS {
            let at = file.ports.get(MAX_METRIC_PORTS).map(Spanned::span);
            let message = format!(
                "{} ports: metrics name at most {MAX_METRIC_PORTS} one by one",
                ports.len()
            );
            return Err(text.error(at, message));
        }
        let metrics = file.metrics.map(|metrics| metrics.listen.0);
        Ok(Self {
            namespaces,
            detach_on_exit: flags.detach_on_exit || file.detach_on_exit.unwrap_or(false),
            ports,
            metrics: flags.metrics.clone().or(metrics),
        })
    }
}

/// Reads the section `[policy]` of the file at `path` and the files of its lists, and nothing else of the file.
///
/// # Errors
///
/// [`ConfigError`]; also where the file has no such section.
pub fn load_policy(path: &Path) -> Result<Policy, ConfigError> {
    let text = read(path)?;
    let text = ConfigText {
        text: &text,
        path: Some(path),
    };
    let file: PolicyFile = text.parse()?;
    let Some(section) = file.policy else {
        let message = "no section [policy]: `tfo policy clear` removes the policy in force";
        return Err(text.error(None, message.to_owned()));
    };
    Ok(Policy {
        lists: section.get_ref().lists()?,
        ..policy(&text, &section)?
    })
}

/// Reads the section `[farm]` of the file at `path`.
///
/// # Errors
///
/// [`ConfigError`]; also where the file has no such section.
pub fn load_farm(path: &Path) -> Result<FarmConfig, ConfigError> {
    let text = read_owned(path)?;
    let text = ConfigText {
        text: &text,
        path: Some(path),
    };
    let file: File = text.parse()?;
    let farm = farm(&text, &file)?.ok_or_else(|| {
        let message = "no section [farm]: add one with the endpoints of the farm's etcd".to_owned();
        text.error(None, message)
    })?;
    farm.check()?;
    Ok(farm)
}

fn ports(text: &ConfigText<'_>, file: &File) -> Result<Vec<u16>, ConfigError> {
    let mut ports = Vec::new();
    for spanned in &file.ports {
        let wrong = |message| text.error(Some(spanned.span()), message);
        let number = *spanned.get_ref();
        let port = u16::try_from(number).ok().filter(|port| *port != 0);
        let port = port.ok_or_else(|| wrong(format!("port {number} is not from 1 to 65535")))?;
        if ports.contains(&port) {
            return Err(wrong(format!("port {port} is named twice")));
        }
        ports.push(port);
    }
    Ok(ports)
}
