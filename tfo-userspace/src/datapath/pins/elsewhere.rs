//! Pins of interfaces that were attached in other network namespaces, in every layout version.

use super::{
    files::{names, namespace_name, root, version_name},
    interface::InterfacePins,
    namespace::NamespacePins,
};
use crate::datapath::error::DatapathError;

/// The pins of an interface in another namespace's directory.
#[derive(Clone, Debug)]
pub(crate) struct PinnedElsewhere {
    /// The namespace's cookie, if the pins are of this layout version.
    pub(crate) cookie: Option<u64>,
    pub(crate) namespace: NamespacePins,
    pub(crate) pins: InterfacePins,
}

impl PinnedElsewhere {
    /// Those of all namespaces but the one of this cookie.
    pub(crate) fn all(cookie: u64) -> Result<Vec<Self>, DatapathError> {
        let own = namespace_name(cookie);
        let mut found = Vec::new();
        for version in names(&root())? {
            let dir = root().join(&version);
            for name in names(&dir)? {
                let Some(other) = name.strip_prefix("net").filter(|_| name != own) else {
                    continue;
                };
                let is_current = version == version_name();
                let namespace = NamespacePins::in_dir(dir.join(&name));
                let cookie = other.parse().ok().filter(|_| is_current);
                found.extend(namespace.interfaces()?.into_iter().map(|pins| Self {
                    cookie,
                    namespace: namespace.clone(),
                    pins,
                }));
            }
        }
        Ok(found)
    }
}
