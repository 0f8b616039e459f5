//! Pins of other layout versions.

use super::{
    files::{names, namespace_name, root, version_name},
    interface::InterfacePins,
    namespace::NamespacePins,
};
use crate::datapath::error::DatapathError;

/// An interface's pins in another layout version. Across layout versions only the link's pin path is stable.
#[derive(Clone, Debug)]
pub(crate) struct OtherLayout {
    /// Such as `v1`.
    pub(crate) version: String,
    pub(crate) pins: InterfacePins,
}

impl OtherLayout {
    /// The interfaces of a namespace that other layout versions attached.
    pub(crate) fn all(cookie: u64) -> Result<Vec<Self>, DatapathError> {
        let mut found = Vec::new();
        for version in names(&root())? {
            if version == version_name() {
                continue;
            }
            let namespace =
                NamespacePins::in_dir(root().join(&version).join(namespace_name(cookie)));
            found.extend(namespace.interfaces()?.into_iter().map(|pins| Self {
                version: version.clone(),
                pins,
            }));
        }
        Ok(found)
    }

    /// Detaches the program and removes the directory; with the namespace's last interface, the namespace's.
    pub(crate) fn remove(&self) -> Result<(), DatapathError> {
        self.pins.remove()?;
        NamespacePins::in_dir(self.pins.parent().to_owned()).remove_if_unused()
    }
}
