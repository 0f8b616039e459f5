//! Interfaces that come, go, move and are renamed.

use std::collections::BTreeSet;

use tracing::{error, info, warn};

use super::NamespaceService;
use crate::{
    datapath::{AttachError, Change},
    kernel::link,
    service::error::is_missing_interface,
};

impl NamespaceService {
    /// Takes in what the follower of interfaces did or saw.
    pub(super) async fn handle_change(&mut self, change: Change) {
        match change {
            Change::Attached { name, ensured } => {
                self.record_attached(name, &ensured);
                // Policy and guard are lost with the last attached interface.
                self.apply_rules().await;
            }
            Change::Renamed { ref from, ref to } => {
                info!("{change}");
                if self.attached.remove(from) {
                    self.attached.insert(to.clone());
                }
                self.missing.remove(to);
                if self.config.interfaces.contains(from) {
                    let reason = format!(
                        "{from}: renamed to {to}, and attached under that name: put {to} into the configuration"
                    );
                    self.missing.insert(from.clone(), reason);
                }
            }
            Change::Moved { ref name } => {
                warn!("{change}");
                if self.attached.remove(name) {
                    self.missing.insert(name.clone(), no_interface(name));
                }
            }
            Change::Failed { ref name, .. } | Change::Lost { ref name } => {
                warn!("{change}");
                self.attached.remove(name);
                self.missing.insert(name.clone(), change.to_string());
            }
            Change::Missing { ref name } | Change::Vanished { ref name } => {
                warn!("{change}");
                self.attached.remove(name);
                self.missing.insert(name.clone(), no_interface(name));
            }
        }
        if let Err(error) = self.start_keys() {
            error!("{error}");
        }
    }
}

/// Replaces alternative names by the names of their interfaces, by which interfaces are followed.
pub(super) async fn resolve(names: &mut Vec<String>) {
    // Where they cannot be listed, attaching says so.
    let present = link::list().await.unwrap_or_default();
    let mut seen = BTreeSet::new();
    for name in names.iter_mut() {
        if let Some(interface) = present.iter().find(|each| each.is_named(name)) {
            name.clone_from(&interface.name);
        }
    }
    names.retain(|name| seen.insert(name.clone()));
}

/// Logs failures to attach. The follower logs an interface that does not exist.
pub(super) fn log(failed: &[AttachError]) {
    for error in failed.iter().filter(|error| !is_missing_interface(error)) {
        error!("{error}");
    }
}

pub(super) fn no_interface(name: &str) -> String {
    format!(
        "{name}: no interface of this name exists: it is attached once one does; `ip link` shows those that exist"
    )
}
