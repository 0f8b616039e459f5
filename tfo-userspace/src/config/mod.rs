//! What the service is to do: one TOML file, and flags that win over its top. It is checked as a whole
//! before any of it is applied.

mod farm;
mod file;
mod interval;
mod layer;
mod namespace;

use std::{
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
};

use toml::Spanned;

pub use interval::interval;
pub use layer::{DEFAULT_INTERVAL, Layer, SourceKind};
pub use namespace::NamespaceConfig;

use crate::{
    farm::FarmConfig,
    guard::{Guard, Section as GuardSection},
    keys::KeyFileError,
    metrics::Listen,
    policy::{ListError, Policy, Section, SectionError},
};
use farm::Section as FarmSection;
use file::{File, PolicyFile};

/// Most ports that metrics name one by one.
pub const MAX_PORTS: usize = 64;
/// Bytes of an interface's name, at most: `IFNAMSIZ` less the zero at its end.
const MAX_NAME: usize = 15;

/// Why a configuration was not taken.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("configuration file {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The kernel's word.
        source: io::Error,
    },
    /// Something in it, or on the command line, is wrong.
    #[error("{place}: {message}")]
    Invalid {
        /// The file and the line; or the command line.
        place: String,
        /// What is wrong, and what would be right.
        message: String,
    },
    /// The file of a key source is of no use.
    #[error(transparent)]
    Keys(#[from] KeyFileError),
    /// A list of a policy is of no use.
    #[error(transparent)]
    List(#[from] ListError),
}

/// What the command line says. It wins over the file's top; sections of namespaces keep their own word.
#[derive(Clone, Debug, Default)]
pub struct Flags {
    /// Interfaces, instead of the file's.
    pub interfaces: Vec<String>,
    /// How to attach, and which keys.
    pub layer: Layer,
    /// Ports, instead of the file's.
    pub ports: Vec<u16>,
    /// Where metrics are served.
    pub metrics: Option<Listen>,
    /// Detach at the end.
    pub detach_on_exit: bool,
}

/// What the service is to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// The network namespaces to look after.
    pub namespaces: Vec<NamespaceConfig>,
    /// Whether to detach at the end.
    pub detach_on_exit: bool,
    /// The ports that metrics name one by one.
    pub ports: Vec<u16>,
    /// Where metrics are served, if they are.
    pub metrics: Option<Listen>,
}

/// Reads the policy of a configuration file, and nothing else of it.
///
/// # Errors
///
/// [`ConfigError`], also where the file has none.
pub fn policy_of(path: &Path) -> Result<Policy, ConfigError> {
    let text = read(path)?;
    let places = Places {
        text: &text,
        path: Some(path),
    };
    let file: PolicyFile = places.parse()?;
    let Some(section) = file.policy else {
        let message = "it has no section [policy]: `tfo policy clear` removes the one in force";
        return Err(places.error(None, message.to_owned()));
    };
    Ok(Policy {
        lists: section.get_ref().lists()?,
        ..places.policy(&section)?
    })
}

impl Config {
    /// Reads `path`, if there is one, and puts it below `flags`.
    ///
    /// # Errors
    ///
    /// [`ConfigError`], with the line of what is wrong.
    pub fn load(path: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let text = match path {
            Some(path) => read(path)?,
            None => String::new(),
        };
        let mut config = Self::parse(&text, path, flags)?;
        for namespace in &mut config.namespaces {
            namespace.source.check()?;
            namespace.read_lists()?;
        }
        Ok(config)
    }

    /// As [`Config::load`], of this text, without the files that it names.
    ///
    /// # Errors
    ///
    /// [`ConfigError::Invalid`].
    pub fn parse(text: &str, path: Option<&Path>, flags: &Flags) -> Result<Self, ConfigError> {
        let places = Places { text, path };
        let file: File = places.parse()?;
        let namespaces = places.namespaces(&file, flags)?;
        let ports = if flags.ports.is_empty() {
            places.ports(&file)?
        } else {
            flags.ports.clone()
        };
        if ports.len() > MAX_PORTS {
            let place = file.ports.get(MAX_PORTS).map(Spanned::span);
            let message = format!(
                "{} ports: metrics name at most {MAX_PORTS} one by one",
                ports.len()
            );
            return Err(places.error(place, message));
        }
        Ok(Self {
            namespaces,
            detach_on_exit: flags.detach_on_exit || file.detach_on_exit.unwrap_or(false),
            ports,
            metrics: flags
                .metrics
                .clone()
                .or(file.metrics.map(|metrics| metrics.listen.0)),
        })
    }
}

/// The farm in the file at `path`.
///
/// # Errors
///
/// [`ConfigError`]; also where it has no section of that name.
pub fn farm(path: &Path) -> Result<FarmConfig, ConfigError> {
    let text = read(path)?;
    let places = Places {
        text: &text,
        path: Some(path),
    };
    let file: File = places.parse()?;
    let farm = places.farm(&file)?;
    let farm = farm.ok_or_else(|| {
        let message = "no section [farm], which says where the farm's etcd is".to_owned();
        places.error(None, message)
    })?;
    farm.check()?;
    Ok(farm)
}

fn read(path: &Path) -> Result<String, ConfigError> {
    fs::read_to_string(path).map_err(|source| ConfigError::Read {
        path: path.to_owned(),
        source,
    })
}

/// Tells where in the file something stands.
struct Places<'a> {
    text: &'a str,
    path: Option<&'a Path>,
}

impl Places<'_> {
    fn parse<T: serde::de::DeserializeOwned>(&self) -> Result<T, ConfigError> {
        toml::from_str(self.text)
            .map_err(|error| self.error(error.span(), error.message().replace('\n', ", ")))
    }

    /// The policy of a section, without its lists.
    fn policy(&self, section: &Spanned<Section>) -> Result<Policy, ConfigError> {
        let rules = section.get_ref().rules();
        rules.map_err(|error| self.of_section(section.span(), &error))
    }

    fn guard(&self, section: &Spanned<GuardSection>) -> Result<Guard, ConfigError> {
        let guard = section.get_ref().guard();
        guard.map_err(|error| self.of_section(section.span(), &error))
    }

    /// What is wrong in the section that stands there.
    fn of_section(&self, section: Range<usize>, error: &SectionError) -> ConfigError {
        self.error(Some(error.at.clone().unwrap_or(section)), error.to_string())
    }

    fn error(&self, at: Option<Range<usize>>, message: String) -> ConfigError {
        let place = match (self.path, at) {
            (Some(path), Some(at)) => {
                let before = self.text.get(..at.start).unwrap_or(self.text);
                let line = 1 + before.matches('\n').count();
                format!("{}:{line}", path.display())
            }
            (Some(path), None) => path.display().to_string(),
            (None, _) => "command line".to_owned(),
        };
        ConfigError::Invalid { place, message }
    }

    fn farm(&self, file: &File) -> Result<Option<FarmConfig>, ConfigError> {
        let farm = file.farm.as_ref().map(FarmSection::config).transpose();
        farm.map_err(|(span, message)| self.error(Some(span), message))
    }

    fn ports(&self, file: &File) -> Result<Vec<u16>, ConfigError> {
        let mut ports = Vec::new();
        for spanned in &file.ports {
            let number = *spanned.get_ref();
            let port = u16::try_from(number).ok().filter(|port| *port != 0);
            let port = port.ok_or_else(|| {
                let message = format!("port {number} is not from 1 to 65535");
                self.error(Some(spanned.span()), message)
            })?;
            if ports.contains(&port) {
                return Err(self.error(Some(spanned.span()), format!("port {port} is named twice")));
            }
            ports.push(port);
        }
        Ok(ports)
    }
}

#[cfg(test)]
mod tests;
