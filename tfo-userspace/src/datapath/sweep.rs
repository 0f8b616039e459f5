//! What is left of processes, interfaces and network namespaces that ended, and goes when someone next
//! attaches or detaches all.

use super::{
    DatapathError, Namespace, controller,
    pins::{InterfacePins, NamespacePins, OtherLayout},
};

impl Namespace {
    /// Removes what was left unfinished here, and the pins of interfaces that are gone. The caller has the
    /// lock. Says whether there may have been counts that are now forgotten.
    pub(super) fn sweep(&self) -> Result<bool, DatapathError> {
        let mut forgot = false;
        for pins in self.pins().unfinished()? {
            pins.remove()?;
            forgot = true;
        }
        for other in OtherLayout::all(self.cookie())? {
            if !other.pins.is_alive() {
                other.remove()?;
            }
        }
        for pins in self.pins().interfaces()? {
            if !pins.is_alive() {
                pins.retire()?.remove()?;
                forgot = true;
            }
        }
        Ok(forgot)
    }

    /// Removes the pins of namespaces in which nothing is attached any more. What someone works on, or a
    /// controller runs in, is left to them.
    pub(super) fn sweep_others(&self) -> Result<(), DatapathError> {
        for (cookie, pins) in self.pins().others()? {
            if let Some(_lock) = pins.try_lock()
                && !controller::is_controlled(cookie)
            {
                sweep_dead(&pins)?;
            }
        }
        Ok(())
    }
}

/// Removes a namespace's pins if none of its links holds a program.
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
