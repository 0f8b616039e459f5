//! What the service is to do in one network namespace.

use std::{collections::BTreeSet, sync::Arc};

use toml::Spanned;

use super::{
    ConfigError, Flags, MAX_NAME, Places, farm,
    file::File,
    layer::{Field, Layer},
};
use crate::{
    datapath::{ModeChoice, Settings},
    guard::{Guard, Section as GuardSection},
    keys::{OnForeignChange, SourceConfig},
    policy::{ListError, Policy, Section},
};

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
    /// Which ports are guarded; `None` for what is in force already.
    pub guard: Option<Guard>,
    /// The policy as it is written, with the names of its lists.
    pub(super) section: Option<Section>,
}

impl Places<'_> {
    pub(super) fn namespaces(
        &self,
        file: &File,
        flags: &Flags,
    ) -> Result<Vec<NamespaceConfig>, ConfigError> {
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
        if !own.is_empty() {
            let own = namespace(None, own, &top).map_err(at)?;
            namespaces.push(self.with_rules(own, file.policy.as_ref(), file.guard.as_ref())?);
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
            let policy = section.policy.as_ref().or(file.policy.as_ref());
            let guard = section.guard.as_ref().or(file.guard.as_ref());
            namespaces.push(self.with_rules(own, policy, guard)?);
        }
        if namespaces.is_empty() {
            let message =
                "no interfaces: name one with -i, or in the file, as in interfaces = [\"eth0\"]";
            return Err(self.error(None, message.to_owned()));
        }
        Ok(namespaces)
    }

    fn with_rules(
        &self,
        mut namespace: NamespaceConfig,
        policy: Option<&Spanned<Section>>,
        guard: Option<&Spanned<GuardSection>>,
    ) -> Result<NamespaceConfig, ConfigError> {
        if let Some(section) = policy {
            namespace.policy = Some(Arc::new(self.policy(section)?));
            namespace.section = Some(section.get_ref().clone());
        }
        if let Some(section) = guard {
            namespace.guard = Some(self.guard(section)?);
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
        guard: None,
        section: None,
    })
}

impl NamespaceConfig {
    pub(super) fn read_lists(&mut self) -> Result<(), ListError> {
        if let Some((policy, section)) = self.policy.as_mut().zip(self.section.as_ref()) {
            Arc::make_mut(policy).lists = section.lists()?;
        }
        Ok(())
    }
}
