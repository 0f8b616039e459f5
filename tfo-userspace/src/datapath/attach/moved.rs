//! Interfaces that were moved to another network namespace. Their links survive the move, so that the program goes on
//! there by the rules of the namespace that it left.

use super::{error::AttachError, sweep::forget};
use crate::datapath::{
    error::DatapathError,
    namespace::{Namespace, NamespaceError, Stray},
};

/// Detaches the programs that left `namespace` with their interfaces, wherever those are now. Gives the interfaces'
/// indexes.
///
/// # Errors
///
/// [`NamespaceError`] where a pin cannot be removed, or the interfaces not be listed.
pub(super) async fn detach_departed(namespace: &Namespace) -> Result<Vec<u32>, NamespaceError> {
    if namespace.departed().await?.is_empty() {
        return Ok(Vec::new());
    }
    let Some(_lock) = namespace.lock()? else {
        return Ok(Vec::new());
    };
    // Another process may have detached them meanwhile.
    let departed = namespace.departed().await?;
    remove_departed(namespace, &departed)?;
    if !departed.is_empty() {
        forget(namespace)?;
    }
    Ok(departed)
}

/// As [`detach_departed`], for these indexes. The caller holds the lock, and rebases.
pub(super) fn remove_departed(
    namespace: &Namespace,
    departed: &[u32],
) -> Result<(), DatapathError> {
    for index in departed {
        namespace.pins().interface(*index).retire()?.remove()?;
    }
    Ok(())
}

/// Detaches programs from interfaces of the calling thread's namespace that were attached in other ones. Gives what was
/// detached.
///
/// # Errors
///
/// [`AttachError::Namespace`] where a pin cannot be removed.
pub async fn detach_strays(namespace: &Namespace) -> Result<Vec<Stray>, AttachError> {
    let strays = namespace.strays().await?;
    strays.iter().try_for_each(remove_stray)?;
    Ok(strays)
}

/// Detaches a program that came from another namespace, and removes its pins there. The caller holds no lock: a process
/// in the other namespace may do the same with one of this.
pub(super) fn remove_stray(stray: &Stray) -> Result<(), DatapathError> {
    let pinned = &stray.pinned;
    let Some(_lock) = pinned.namespace.lock()? else {
        return Ok(());
    };
    // The controller of the other namespace may have been faster.
    if !pinned.pins.exists() {
        return Ok(());
    }
    for unfinished in pinned.namespace.unfinished()? {
        if unfinished.index == pinned.pins.index {
            unfinished.remove()?;
        }
    }
    if let Some(cookie) = pinned.cookie {
        // Only its own controller can read the other namespace's counters.
        Namespace::of(cookie).leave_out(pinned.pins.index)?;
    }
    pinned.pins.retire()?.remove()?;
    pinned.namespace.remove_if_unused()
}
