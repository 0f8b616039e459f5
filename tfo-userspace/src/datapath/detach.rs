//! Detaching the data path.

use super::{
    AttachError, Namespace, NamespaceError,
    pins::{InterfacePins, OtherLayout},
};

/// Detaches the data path from an interface, by index, and removes its pins and counts. With the last
/// interface of a namespace go the data path's keys; the kernel keeps its own.
///
/// # Errors
///
/// [`AttachError::NotAttached`], or where a pin cannot be removed.
pub fn detach(namespace: &Namespace, index: u32, name: &str) -> Result<(), AttachError> {
    let not_attached = || AttachError::NotAttached {
        interface: name.to_owned(),
    };
    let lock = namespace.pins().lock()?;
    let pins = namespace.pins().interface(index);
    let mut others = OtherLayout::all(namespace.cookie())?;
    others.retain(|other| other.pins.index == index);
    if !pins.exists() && others.is_empty() {
        return Err(not_attached());
    }
    for other in others {
        other.remove()?;
    }
    if lock.is_some() && pins.exists() {
        remove(namespace, &pins)?;
    }
    Ok(())
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
        let forgot = namespace.sweep()?;
        namespace.pins().remove_if_unused()?;
        if forgot && namespace.pins().exists() {
            namespace.rebase()?;
        }
    }
    namespace.sweep_others()?;
    Ok(removed)
}

/// The caller has the lock.
fn remove(namespace: &Namespace, pins: &InterfacePins) -> Result<(), NamespaceError> {
    pins.retire()?.remove()?;
    namespace.pins().remove_if_unused()?;
    if namespace.pins().exists() {
        namespace.rebase()?;
    }
    Ok(())
}
