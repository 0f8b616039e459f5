//! Removing what processes, interfaces and network namespaces left when they ended: on the next attach, and
//! on `tfo detach --all`.

use crate::datapath::{
    error::DatapathError,
    namespace::{Namespace, NamespaceError, is_controlled},
    pins::{InterfacePins, NamespacePins, OtherLayout},
};

/// Removes unfinished directories of a namespace and the pins of interfaces that are gone. The caller holds the
/// lock. Gives whether counters may be gone with them, so that a rebase is due.
pub(super) fn sweep(namespace: &Namespace) -> Result<bool, DatapathError> {
    let mut forgot = false;
    for pins in namespace.pins().unfinished()? {
        pins.remove()?;
        forgot = true;
    }
    for other in OtherLayout::all(namespace.cookie())? {
        if !other.pins.is_alive() {
            other.remove()?;
        }
    }
    for pins in namespace.pins().interfaces()? {
        if !pins.is_alive() {
            pins.retire()?.remove()?;
            forgot = true;
        }
    }
    Ok(forgot)
}

/// Removes the pins of other namespaces in which nothing is attached, unless a process has them locked or a
/// controller runs there.
pub(super) fn sweep_others(namespace: &Namespace) -> Result<(), DatapathError> {
    for (cookie, pins) in namespace.pins().others()? {
        if let Some(_lock) = pins.try_lock()
            && !is_controlled(cookie)
        {
            sweep_dead(&pins)?;
        }
    }
    Ok(())
}

/// Removes the pins of namespaces that are gone, as each attach does; for a service whose namespaces go.
///
/// # Errors
///
/// [`NamespaceError`] where the pins cannot be listed or removed.
pub fn sweep_ended() -> Result<(), NamespaceError> {
    Ok(sweep_others(&Namespace::current()?)?)
}

/// Removes a namespace's pins if none of its links has an interface.
fn sweep_dead(namespace: &NamespacePins) -> Result<(), DatapathError> {
    let mut all = namespace.unfinished()?;
    all.extend(namespace.interfaces()?);
    if all.iter().any(InterfacePins::may_be_alive) {
        return Ok(());
    }
    for pins in &all {
        pins.remove()?;
    }
    namespace.remove_if_unused()
}

/// Due after an interface was removed. The caller holds the lock.
pub(super) fn forget(namespace: &Namespace) -> Result<(), NamespaceError> {
    namespace.pins().remove_if_unused()?;
    if namespace.pins().exists() {
        namespace.rebase()?;
    }
    Ok(())
}
