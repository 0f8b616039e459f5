//! What the service is to do: one TOML file, and flags that win over its top. It is checked as a whole
//! before any of it is applied.

mod farm;
mod file;
mod interval;
mod layer;

use std::{
    collections::BTreeSet,
    fs, io,
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::Spanned;

pub use interval::interval;
pub use layer::{DEFAULT_INTERVAL, Layer, SourceKind};

use crate::{
    datapath::{ModeChoice, Settings},
    farm::FarmConfig,
    keys::{KeyFileError, OnForeignChange, SourceConfig},
    metrics::Listen,
    policy::{ListError, Policy, Section},
};
use farm::Section as FarmSection;
use file::{File, PolicyFile};
use layer::Field;

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

/// What to do in one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// The namespace; `None` for the one that the service was started in.
    pub name: Option<String>,
    /// Where to attach.
    pub interfaces: Vec<String>,
    /// In which mode.
    pub mode: ModeChoice,
    /// What the program is told.
    pub settings: Settings,
    /// Where keys come from.
    pub source: SourceConfig,
    /// What to do where someone else changes them.
    pub on_foreign_change: OnForeignChange,
    /// What is done to SYNs; `None` for what is in force already.
    pub policy: Option<Arc<Policy>>,
    /// The same as it is written, with the names of its lists.
    section: Option<Section>,
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
        section.get_ref().rules().map_err(|error| {
            let at = error.at.clone().unwrap_or_else(|| section.span());
            self.error(Some(at), error.to_string())
        })
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

    fn namespaces(&self, file: &File, flags: &Flags) -> Result<Vec<NamespaceConfig>, ConfigError> {
        let mut top = flags.layer.clone().over(&file.layer());
        top.farm = self.farm(file)?;
        let at = |(field, message)| self.error(file.place(field), message);
        top.check_path().map_err(at)?;
        let mut namespaces = Vec::new();
        let own = if flags.interfaces.is_empty() {
            self.interfaces(&file.interfaces)?
        } else {
            flags.interfaces.clone()
        };
        let mut seen = BTreeSet::new();
        if let Some(twice) = own.iter().find(|name| !seen.insert(*name)) {
            return Err(self.error(None, format!("interface {twice} is named twice")));
        }
        let top_policy = file.policy.as_ref();
        if !own.is_empty() {
            let own = namespace(None, own, &top).map_err(at)?;
            namespaces.push(self.with_policy(own, top_policy)?);
        }
        let mut seen = BTreeSet::new();
        for section in &file.namespace {
            let name = section.name.get_ref();
            let here = |message| Err(self.error(Some(section.name.span()), message));
            if name.is_empty() {
                return here("a namespace has a name of `ip netns`, or a path".to_owned());
            }
            if !seen.insert(name) {
                return here(format!(
                    "network namespace {name} has a section already: put all of its interfaces into one"
                ));
            }
            let interfaces = self.interfaces(&section.interfaces)?;
            if interfaces.is_empty() {
                return here(format!(
                    "network namespace {name} has no interfaces: name one, or leave the section out"
                ));
            }
            let at = |(field, message): (Field, _)| self.error(Some(section.place(field)), message);
            let own = section.layer();
            let path = own.key_path.is_some();
            let layer = own.over(&top);
            if path {
                layer.check_path().map_err(at)?;
            }
            let own = namespace(Some(name), interfaces, &layer).map_err(at)?;
            let policy = section.policy.as_ref().or(top_policy);
            namespaces.push(self.with_policy(own, policy)?);
        }
        if namespaces.is_empty() {
            let message =
                "no interfaces: name one with -i, or in the file, as in interfaces = [\"eth0\"]";
            return Err(self.error(None, message.to_owned()));
        }
        Ok(namespaces)
    }

    fn with_policy(
        &self,
        mut namespace: NamespaceConfig,
        section: Option<&Spanned<Section>>,
    ) -> Result<NamespaceConfig, ConfigError> {
        if let Some(section) = section {
            namespace.policy = Some(Arc::new(self.policy(section)?));
            namespace.section = Some(section.get_ref().clone());
        }
        Ok(namespace)
    }

    fn interfaces(&self, names: &[Spanned<String>]) -> Result<Vec<String>, ConfigError> {
        let mut interfaces = Vec::new();
        for spanned in names {
            let name = spanned.get_ref();
            let here = |message| Err(self.error(Some(spanned.span()), message));
            let odd = |byte: u8| byte == b'/' || byte.is_ascii_whitespace();
            if name.is_empty() || name.len() > MAX_NAME || name.bytes().any(odd) {
                return here(format!(
                    "{name:?} cannot be an interface's name: `ip link` shows those that there are"
                ));
            }
            if interfaces.contains(name) {
                return here(format!("interface {name} is named twice"));
            }
            interfaces.push(name.clone());
        }
        Ok(interfaces)
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

fn namespace(
    name: Option<&String>,
    interfaces: Vec<String>,
    layer: &Layer,
) -> Result<NamespaceConfig, (Field, String)> {
    let mut source = layer.source()?;
    if let (SourceConfig::Etcd(farm), Some(name)) = (&mut source, name) {
        farm.host = farm::host_in(&farm.host, name);
    }
    Ok(NamespaceConfig {
        name: name.cloned(),
        interfaces,
        mode: layer.mode.unwrap_or_default(),
        settings: layer.settings(),
        source,
        on_foreign_change: layer.on_foreign_change.unwrap_or_default(),
        policy: None,
        section: None,
    })
}

impl NamespaceConfig {
    fn read_lists(&mut self) -> Result<(), ListError> {
        if let Some((policy, section)) = self.policy.as_mut().zip(self.section.as_ref()) {
            Arc::make_mut(policy).lists = section.lists()?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests;
