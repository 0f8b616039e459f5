//! Detaching.

use super::{
    error::AttachError,
    sweep::{sweep, sweep_others},
};
use crate::datapath::{
    namespace::{Namespace, NamespaceError},
    pins::OtherLayout,
};

/// Detaches the data path from the interface of this index, and removes its pins and counters. With the last
/// interface of a namespace go its keys; the kernel keeps its own. `name` is for the error.
///
/// # Errors
///
/// [`AttachError::NotAttached`], or [`AttachError::Namespace`] where a pin cannot be removed.
pub fn detach(namespace: &Namespace, index: u32, name: &str) -> Result<(), AttachError> {
    let mut found = false;
    for other in OtherLayout::all(namespace.cookie())? {
        if other.pins.index == index {
            other.remove()?;
            found = true;
        }
    }
    if let Some(_lock) = namespace.pins().lock()? {
        // A detach may have been killed.
        for pins in namespace.pins().unfinished()? {
            if pins.index == index {
                pins.remove()?;
                found = true;
            }
        }
        let pins = namespace.pins().interface(index);
        if pins.exists() {
            pins.retire()?.remove()?;
            found = true;
        }
        if found {
            forget(namespace)?;
        }
    }
    if found {
        Ok(())
    } else {
        Err(AttachError::NotAttached {
            interface: name.to_owned(),
        })
    }
}

/// Removes leftovers of interfaces, namespaces and processes that ended, in all namespaces, and what other layout
/// versions attached in this one. Gives the indexes of the latter's interfaces.
///
/// # Errors
///
/// [`AttachError::Namespace`] where a pin cannot be removed.
pub fn detach_gone(namespace: &Namespace) -> Result<Vec<u32>, AttachError> {
    let mut removed = Vec::new();
    for other in OtherLayout::all(namespace.cookie())? {
        other.remove()?;
        removed.push(other.pins.index);
    }
    if let Some(_lock) = namespace.pins().lock()? {
        if sweep(namespace)? {
            forget(namespace)?;
        }
        namespace.pins().remove_if_unused()?;
    }
    sweep_others(namespace)?;
    Ok(removed)
}

/// Due after an interface was removed. The caller holds the lock.
fn forget(namespace: &Namespace) -> Result<(), NamespaceError> {
    namespace.pins().remove_if_unused()?;
    if namespace.pins().exists() {
        namespace.rebase()?;
    }
    Ok(())
}
