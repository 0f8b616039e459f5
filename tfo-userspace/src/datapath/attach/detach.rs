//! Detaching the data path.

use super::{AttachError, Namespace, NamespaceError, pins::OtherLayout};

/// Detaches the data path from an interface, by index, and removes its pins and counts. With the last
/// interface of a namespace go the data path's keys; the kernel keeps its own.
///
/// # Errors
///
/// [`AttachError::NotAttached`], or where a pin cannot be removed.
pub fn detach(namespace: &Namespace, index: u32, name: &str) -> Result<(), AttachError> {
    let mut found = false;
    for other in OtherLayout::all(namespace.cookie())? {
        if other.pins.index == index {
            other.remove()?;
            found = true;
        }
    }
    if let Some(_lock) = namespace.pins().lock()? {
        // Another process may have been killed at this.
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

/// Removes what interfaces, namespaces and processes left here and elsewhere when they ended, and what
/// another layout version attached here; gives the indexes of the interfaces that it knew.
///
/// # Errors
///
/// Where a pin cannot be removed.
pub fn detach_gone(namespace: &Namespace) -> Result<Vec<u32>, AttachError> {
    let mut removed = Vec::new();
    for other in OtherLayout::all(namespace.cookie())? {
        other.remove()?;
        removed.push(other.pins.index);
    }
    if let Some(_lock) = namespace.pins().lock()? {
        if namespace.sweep()? {
            forget(namespace)?;
        }
        namespace.pins().remove_if_unused()?;
    }
    namespace.sweep_others()?;
    Ok(removed)
}

/// After an interface was removed. The caller has the lock.
fn forget(namespace: &Namespace) -> Result<(), NamespaceError> {
    namespace.pins().remove_if_unused()?;
    if namespace.pins().exists() {
        namespace.rebase()?;
    }
    Ok(())
}
