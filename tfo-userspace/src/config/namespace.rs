//! The configuration of one network namespace.

use std::{
    collections::{BTreeMap, BTreeSet},
    ops::Range,
    path::{Path, PathBuf},
    sync::Arc,
};

use toml::Spanned;

use super::{
    error::ConfigError,
    farm::{FarmSection, host_in_namespace},
    file::{File, NamespaceSection},
    guard::GuardSection,
    key_source::KeySourceConfig,
    layer::{KeyField, Layer},
    listeners::{ListenersSection, PortListeners},
    own_cookies::{CookiesSection, OwnCookieConfig},
    policy::PolicySection,
    ports::SectionError,
    text::ConfigText,
};
use crate::{
    farm::FarmConfig,
    kernel::netns,
    keys::OnForeignChange,
    model::{Guard, ModeChoice, NetnsPattern, Policy, Settings},
    policy::ListError,
};

/// Bytes of an interface's name, at most: `ALTIFNAMSIZ`, the limit of alternative names, less the terminating zero.
const MAX_NAME: usize = 127;

/// The configuration of one network namespace.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamespaceConfig {
    /// A name of `ip netns`, or a path, or a pattern of either; `None` for the service's own namespace.
    pub name: Option<String>,
    /// The pattern in `name`, where it is one.
    pub pattern: Option<NetnsPattern>,
    /// The interfaces to attach to.
    pub interfaces: Vec<String>,
    /// The attach mode; `None` for [`ModeChoice::Auto`], or that of an interface that is attached already.
    pub mode: Option<ModeChoice>,
    /// The settings of the data path's program.
    pub settings: Settings,
    /// The source of keys.
    pub source: KeySourceConfig,
    /// The reaction to a change of the kernel's keys by another process.
    pub on_foreign_change: OnForeignChange,
    /// The policy; `None` to leave the one in force.
    pub policy: Option<Arc<Policy>>,
    /// The guard; `None` to leave the one in force.
    pub guard: Option<Guard>,
    /// The file of the secret that other hosts' guards have, too.
    pub guard_secret: Option<PathBuf>,
    /// Guard also ports and interfaces on which the guard is known to break connections.
    pub force_guard: bool,
    /// Own cookies; `None` to leave what is in force.
    pub cookies: Option<OwnCookieConfig>,
    /// The ports whose listeners get Fast Open, whatever their applications set; `None` to leave listeners alone.
    pub listeners: Option<BTreeMap<u16, PortListeners>>,
    /// The section of `policy`, which names the files of its lists.
    pub(super) policy_section: Option<PolicySection>,
}

impl NamespaceConfig {
    /// The configuration of one of the namespaces that the pattern matches.
    #[must_use]
    pub fn of_match(self, name: &str) -> Self {
        Self {
            name: Some(name.to_owned()),
            pattern: None,
            ..self
        }
    }

    /// Reads the files of the policy's lists.
    pub(super) fn read_lists(&mut self) -> Result<(), ListError> {
        if let Some((policy, section)) = self.policy.as_mut().zip(self.policy_section.as_ref()) {
            Arc::make_mut(policy).lists = section.lists()?;
        }
        Ok(())
    }

    fn new(
        name: Option<&String>,
        pattern: Option<NetnsPattern>,
        interfaces: Vec<String>,
        layer: &Layer,
    ) -> Result<Self, (KeyField, String)> {
        let mut source = layer.source()?;
        if let (KeySourceConfig::Etcd(farm), Some(name)) = (&mut source, name) {
            farm.host = host_in_namespace(&farm.host, name);
        }
        Ok(Self {
            name: name.cloned(),
            pattern,
            interfaces,
            mode: layer.mode,
            settings: layer.settings(),
            source,
            on_foreign_change: layer.on_foreign_change.unwrap_or_default(),
            policy: None,
            guard: None,
            guard_secret: None,
            force_guard: false,
            cookies: None,
            listeners: None,
            policy_section: None,
        })
    }

    fn with_listeners(
        mut self,
        text: &ConfigText<'_>,
        section: Option<&Spanned<ListenersSection>>,
    ) -> Result<Self, ConfigError> {
        if let Some(section) = section {
            let ports = section.get_ref().ports();
            self.listeners =
                Some(ports.map_err(|error| section_error(text, section.span(), &error))?);
        }
        Ok(self)
    }

    fn with_rules(
        mut self,
        text: &ConfigText<'_>,
        policy_section: Option<&Spanned<PolicySection>>,
        guard_section: Option<&Spanned<GuardSection>>,
        cookies_section: Option<&Spanned<CookiesSection>>,
    ) -> Result<Self, ConfigError> {
        if let Some(section) = cookies_section {
            let cookies = section.get_ref().config(&self.source);
            let at = Some(section.span());
            self.cookies =
                Some(cookies.map_err(|error| text.error(at, format!("[cookies]: {error}")))?);
        }
        if let Some(section) = policy_section {
            self.policy = Some(Arc::new(policy(text, section)?));
            self.policy_section = Some(section.get_ref().clone());
        }
        if let Some(section) = guard_section {
            self.force_guard = section.get_ref().force;
            self.guard_secret.clone_from(&section.get_ref().secret_file);
            let guard = section.get_ref().guard();
            self.guard = Some(guard.map_err(|error| section_error(text, section.span(), &error))?);
        }
        Ok(self)
    }
}

/// The namespaces of `file`, with `flags` above its top level.
pub(super) fn namespaces(
    text: &ConfigText<'_>,
    file: &File,
    interface_flags: &[String],
    flags: &Layer,
) -> Result<Vec<NamespaceConfig>, ConfigError> {
    let wrong = |(at, message)| text.error(Some(at), message);
    let own = file.layer().map_err(wrong)?;
    let mut top = flags.clone().over(&own);
    top.farm = farm(text, file)?;
    let mut namespaces = Vec::new();
    namespaces.extend(own_namespace(text, file, interface_flags, &top)?);
    let mut seen = BTreeSet::new();
    for section in &file.namespace {
        let name = section.name.get_ref();
        if !seen.insert(name) {
            let message = format!(
                "network namespace {name} has a section already: put all of its interfaces into one"
            );
            return Err(text.error(Some(section.name.span()), message));
        }
        namespaces.push(other_namespace(text, file, section, &top)?);
    }
    let is_used = |it: &NamespaceConfig| it.source.interval().is_some();
    if !namespaces.iter().any(is_used) {
        check_interval(flags, &own, &top)
            .map_err(|(field, message)| text.error(file.span(field), message))?;
    }
    if namespaces.is_empty() {
        let message =
            "no interfaces: name one with -i, or in the file, as in interfaces = [\"eth0\"]";
        return Err(text.error(None, message.to_owned()));
    }
    Ok(namespaces)
}

/// Refuses an interval that nothing uses, in the file's top level `own` or in the flags. One in the file is left alone where a
/// flag names another source.
fn check_interval(flags: &Layer, own: &Layer, top: &Layer) -> Result<(), (KeyField, String)> {
    own.check_interval()?;
    match flags.interval {
        Some(_) => top.check_interval(),
        None => Ok(()),
    }
}

/// The service's own namespace, where it has interfaces.
fn own_namespace(
    text: &ConfigText<'_>,
    file: &File,
    interface_flags: &[String],
    top: &Layer,
) -> Result<Option<NamespaceConfig>, ConfigError> {
    let at = |(field, message)| text.error(file.span(field), message);
    top.check_path().map_err(at)?;
    let names = if interface_flags.is_empty() {
        interfaces(text, &file.interfaces)?
    } else {
        interface_flags.to_owned()
    };
    let mut seen = BTreeSet::new();
    if let Some(twice) = names.iter().find(|name| !seen.insert(*name)) {
        return Err(text.error(None, format!("interface {twice} is named twice")));
    }
    if names.is_empty() {
        return Ok(None);
    }
    let own = NamespaceConfig::new(None, None, names, top).map_err(at)?;
    let (policy, guard, cookies) = (&file.policy, &file.guard, &file.cookies);
    own.with_listeners(text, file.listeners.as_ref())?
        .with_rules(text, policy.as_ref(), guard.as_ref(), cookies.as_ref())
        .map(Some)
}

/// A `[[namespace]]`, which inherits from the top level.
fn other_namespace(
    text: &ConfigText<'_>,
    file: &File,
    section: &NamespaceSection,
    top: &Layer,
) -> Result<NamespaceConfig, ConfigError> {
    let name = section.name.get_ref();
    let wrong = |message| text.error(Some(section.name.span()), message);
    let here = |message| Err(wrong(message));
    if name.is_empty() {
        return here("name is empty: write a name of `ip netns`, or a path".to_owned());
    }
    let pattern = NetnsPattern::parse(name, Path::new(netns::NAMED)).map_err(wrong)?;
    let interfaces = interfaces(text, &section.interfaces)?;
    if interfaces.is_empty() {
        return here(format!(
            "network namespace {name} has no interfaces: name one, or remove the section"
        ));
    }
    let at = |(field, message): (KeyField, _)| text.error(Some(section.span(field)), message);
    let own = section
        .layer()
        .map_err(|(at, message)| text.error(Some(at), message))?;
    let (has_path, has_interval) = (own.key_path.is_some(), own.interval.is_some());
    let layer = own.over(top);
    if has_path {
        layer.check_path().map_err(at)?;
    }
    if has_interval {
        layer.check_interval().map_err(at)?;
    }
    let namespace = NamespaceConfig::new(Some(name), pattern, interfaces, &layer).map_err(at)?;
    if namespace.pattern.is_some() && namespace.source.farm().is_some() {
        return here(format!(
            "{name}: namespaces that a pattern matches come and go, and a farm waits for each of its hosts: give the section keys of another source"
        ));
    }
    let policy = section.policy.as_ref().or(file.policy.as_ref());
    let guard = section.guard.as_ref().or(file.guard.as_ref());
    let cookies = section.cookies.as_ref().or(file.cookies.as_ref());
    let listeners = section.listeners.as_ref().or(file.listeners.as_ref());
    namespace
        .with_listeners(text, listeners)?
        .with_rules(text, policy, guard, cookies)
}

fn interfaces(
    text: &ConfigText<'_>,
    names: &[Spanned<String>],
) -> Result<Vec<String>, ConfigError> {
    let mut interfaces = Vec::new();
    for spanned in names {
        let name = spanned.get_ref();
        let here = |message| Err(text.error(Some(spanned.span()), message));
        let invalid = |byte: u8| byte == b'/' || byte.is_ascii_whitespace();
        if name.is_empty() || name.len() > MAX_NAME || name.bytes().any(invalid) {
            return here(format!(
                "{name:?} cannot be an interface's name: `ip link` lists the interfaces"
            ));
        }
        if interfaces.contains(name) {
            return here(format!("interface {name} is named twice"));
        }
        interfaces.push(name.clone());
    }
    Ok(interfaces)
}

/// The policy of a section, without its lists.
pub(super) fn policy(
    text: &ConfigText<'_>,
    section: &Spanned<PolicySection>,
) -> Result<Policy, ConfigError> {
    let rules = section.get_ref().rules();
    rules.map_err(|error| section_error(text, section.span(), &error))
}

/// The farm of the section `[farm]`.
pub(super) fn farm(text: &ConfigText<'_>, file: &File) -> Result<Option<FarmConfig>, ConfigError> {
    let farm = file.farm.as_ref().map(FarmSection::config).transpose();
    farm.map_err(|(span, message)| text.error(Some(span), message))
}

fn section_error(
    text: &ConfigText<'_>,
    section: Range<usize>,
    error: &SectionError,
) -> ConfigError {
    text.error(Some(error.at.clone().unwrap_or(section)), error.to_string())
}
