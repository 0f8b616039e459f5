//! The interfaces of one network namespace: what is attached, what is not and why, as they come, go, move and are
//! renamed.

use std::collections::{BTreeMap, BTreeSet};

use tracing::{error, info, warn};

use crate::{
    datapath::{AttachError, Change, Ensured},
    kernel::link,
    service::{attached::describe_attached, error::is_missing_interface, memory},
};

/// The interfaces of a namespace.
#[derive(Default)]
pub(super) struct Interfaces {
    pub(super) attached: BTreeSet<String>,
    /// Configured interfaces that are not attached, and why, with the remedy.
    pub(super) missing: BTreeMap<String, String>,
    /// An interface was attached before the service started.
    pub(super) taken_over: bool,
}

impl Interfaces {
    /// `true` where that is news: a reload has every interface looked at again.
    pub(super) fn record_attached(&mut self, name: String, ensured: &Ensured) -> bool {
        if self.attached.contains(&name) && matches!(ensured, Ensured::Kept(_)) {
            return false;
        }
        self.taken_over |= !matches!(ensured, Ensured::Attached(_));
        for line in describe_attached(&name, ensured).lines() {
            info!("{line}");
        }
        self.missing.remove(&name);
        self.attached.insert(name);
        memory::release_unused();
        true
    }

    pub(super) fn record_failed(&mut self, name: String, error: &AttachError) {
        self.attached.remove(&name);
        let reason = if is_missing_interface(error) {
            no_interface(&name)
        } else {
            error.to_string()
        };
        self.missing.insert(name, reason);
    }

    /// Takes in what the follower of interfaces did or saw. `true` where one is attached that was not, or by another program.
    pub(super) fn take(&mut self, change: Change, configured: &[String]) -> bool {
        match change {
            Change::Attached { name, ensured } => return self.record_attached(name, &ensured),
            Change::Renamed { ref from, ref to } => {
                info!("{change}");
                if self.attached.remove(from) {
                    self.attached.insert(to.clone());
                }
                self.missing.remove(to);
                if configured.contains(from) {
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
        false
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

fn no_interface(name: &str) -> String {
    format!(
        "{name}: no interface of this name exists: it is attached once one does; `ip link` shows those that exist"
    )
}
