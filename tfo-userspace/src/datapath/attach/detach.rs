//! Detaching.

use super::{
    error::AttachError,
    moved::{remove_departed, remove_stray},
    sweep::{forget, sweep, sweep_others},
};
use crate::datapath::{namespace::Namespace, pins::OtherLayout};

/// Detaches the data path from the interface of this index, and removes its pins and counters. With the last
/// interface of a namespace go its keys; the kernel keeps its own. Also detaches a program that came with the interface
/// from another network namespace. `name` is for the error.
///
/// # Errors
///
/// [`AttachError::NotAttached`], or [`AttachError::Namespace`] where a pin cannot be removed.
pub async fn detach(namespace: &Namespace, index: u32, name: &str) -> Result<(), AttachError> {
    let mut found = false;
    let strays = namespace.strays().await?;
    for stray in strays.iter().filter(|stray| stray.index == index) {
        remove_stray(stray)?;
        found = true;
    }
    detach_own(namespace, index, &mut found)?;
    if found {
        Ok(())
    } else {
        Err(AttachError::NotAttached {
            interface: name.to_owned(),
        })
    }
}

/// Removes the pins of an interface in the namespace's own directories. `found` becomes `true` where there were any.
fn detach_own(namespace: &Namespace, index: u32, found: &mut bool) -> Result<(), AttachError> {
    for other in OtherLayout::all(namespace.cookie())? {
        if other.pins.index == index {
            other.remove()?;
            *found = true;
        }
    }
    if let Some(_lock) = namespace.pins().lock()? {
        // A detach may have been killed.
        for pins in namespace.pins().unfinished()? {
            if pins.index == index {
                pins.remove()?;
                *found = true;
            }
        }
        let pins = namespace.pins().interface(index);
        if pins.exists() {
            pins.retire()?.remove()?;
            *found = true;
        }
        if *found {
            forget(namespace)?;
        }
    }
    Ok(())
}

/// Removes leftovers of interfaces, namespaces and processes that ended, in all namespaces, and what other layout
/// versions attached in this one. Gives the indexes of the latter's interfaces.
///
/// # Errors
///
/// [`AttachError::Namespace`] where a pin cannot be removed.
pub async fn detach_gone(namespace: &Namespace) -> Result<Vec<u32>, AttachError> {
    let mut removed = Vec::new();
    for other in OtherLayout::all(namespace.cookie())? {
        other.remove()?;
        removed.push(other.pins.index);
    }
    if let Some(_lock) = namespace.pins().lock()? {
        let forgot = sweep(namespace)?;
        let departed = namespace.departed().await?;
        remove_departed(namespace, &departed)?;
        if forgot || !departed.is_empty() {
            forget(namespace)?;
        }
        namespace.pins().remove_if_unused()?;
    }
    sweep_others(namespace)?;
    Ok(removed)
}
