//! The guard of a namespace.

use std::time::Duration;

use tfo_common::guard::Mode;
use tokio::time::sleep;

use super::{GuardStore, discharge, post, store::nanoseconds};
use crate::{
    datapath::{
        DatapathError, Namespace, NamespaceError, info, namespace::AttachedInterface,
        pins::found_maps, program::map_from_pin,
    },
    kernel::link,
    model::{AttachMode, Guard, PortState},
};

/// How long those who were challenged just now have to bring back their proof, where a guard is cleared.
const DRAIN: Duration = Duration::from_secs(3);

/// Why the guard could not be changed.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// No interface can have one.
    #[error("no interface here can be guarded: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Nowhere(Vec<Unguarded>),
}

impl From<DatapathError> for GuardError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// An interface that has no guard, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unguarded {
    /// The interface.
    pub interface: String,
    /// Why.
    pub reason: String,
}

impl std::fmt::Display for Unguarded {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{}: {}", self.interface, self.reason)
    }
}

/// What the guard goes by, and what it does at this moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardState {
    /// What it goes by.
    pub guard: Guard,
    /// What it does, by port; 0 for all that have no rule.
    pub ports: Vec<PortState>,
    /// The slot of time: in each of them, [`Namespace::refresh_guard`] is due.
    pub slot: u64,
}

impl Namespace {
    /// The guard's maps; `None` where nothing is attached.
    fn guards(&self) -> Result<Option<GuardStore>, DatapathError> {
        let pins = self.pins();
        found_maps(GuardStore::of(|name| map_from_pin(&pins.map(name), name)))
    }

    /// Whether interfaces that are attached need the guard's programs.
    pub(in crate::datapath) fn is_guarded(&self) -> Result<bool, DatapathError> {
        self.guards()?.map_or(Ok(false), |store| store.is_armed())
    }

    /// What the guard goes by and does; `None` where there is none, or nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where it cannot be read.
    pub fn guard(&self) -> Result<Option<GuardState>, DatapathError> {
        let Some(store) = self.guards()? else {
            return Ok(None);
        };
        let Some(guard) = store.get()? else {
            return Ok(None);
        };
        let now = nanoseconds();
        let ports = store.states()?;
        let ports = ports
            .iter()
            .map(|(port, state)| PortState::of(*port, state, now));
        Ok(Some(GuardState {
            guard,
            ports: ports.collect(),
            slot: store.slot()?,
        }))
    }

    /// Has the guard go by what `change` makes of what it goes by, or by nothing. Gives the interfaces that
    /// cannot have it.
    ///
    /// # Errors
    ///
    /// [`GuardError`]; nothing is changed then.
    pub async fn change_guard<E: From<GuardError>>(
        &self,
        change: impl FnOnce(Option<Guard>) -> Result<Option<Guard>, E>,
    ) -> Result<Vec<Unguarded>, E> {
        let _lock = self.lock().map_err(|error| E::from(error.into()))?;
        let store = self.guards().map_err(|error| E::from(error.into()))?;
        let nothing = || E::from(NamespaceError::NothingAttached.into());
        let mut store = store.ok_or_else(nothing)?;
        let before = store.get().map_err(|error| E::from(error.into()))?;
        let guard = change(before.clone())?.filter(|guard| !guard.is_empty());
        let done = self.put_guard(&mut store, before.as_ref(), guard.as_ref());
        Ok(done.await?)
    }

    async fn put_guard(
        &self,
        store: &mut GuardStore,
        before: Option<&Guard>,
        guard: Option<&Guard>,
    ) -> Result<Vec<Unguarded>, GuardError> {
        let interfaces = self.interfaces().await?;
        let Some(guard) = guard else {
            if before.is_some() {
                self.clear_guard(store, &interfaces).await?;
            }
            return Ok(Vec::new());
        };
        let mut unguarded = Vec::new();
        for interface in &interfaces {
            if let Err(reason) = self.guard_interface(interface).await? {
                unguarded.push(Unguarded {
                    interface: interface.label(),
                    reason,
                });
            }
        }
        if unguarded.len() == interfaces.len() {
            return Err(GuardError::Nowhere(unguarded));
        }
        if before != Some(guard) {
            store.set(Some(guard))?;
        }
        Ok(unguarded)
    }

    /// Takes the guard from all interfaces, once those who were challenged have had time to prove it.
    async fn clear_guard(
        &self,
        store: &mut GuardStore,
        interfaces: &[AttachedInterface],
    ) -> Result<(), GuardError> {
        if let Some(mut guard) = store.get()? {
            let rules = guard.default.iter_mut().chain(guard.ports.values_mut());
            rules.for_each(|rule| rule.mode = Mode::Off);
            store.set(Some(&guard))?;
            sleep(DRAIN).await;
        }
        store.set(None)?;
        for interface in interfaces {
            discharge(&self.pins().interface(interface.index))?;
        }
        Ok(())
    }

    /// Puts the guard's programs on an interface. The inner error is why it cannot have them.
    async fn guard_interface(
        &self,
        interface: &AttachedInterface,
    ) -> Result<Result<(), String>, GuardError> {
        match interface.mode {
            None => return Ok(Err("nothing is attached there any more".into())),
            Some(AttachMode::Tc) => {
                return Ok(Err(
                    "it runs in traffic control, where no frame can be answered: attach it in XDP (--mode native or generic), or limit SYNs by `tfo policy`".into(),
                ));
            }
            Some(_) => {}
        }
        let pins = self.pins().interface(interface.index);
        if pins.guard().exists() {
            return Ok(Ok(()));
        }
        let found = link::list().await.map_err(NamespaceError::from)?;
        let found = found.into_iter().find(|each| each.index == interface.index);
        let Some(found) = found else {
            return Ok(Err("it is gone".into()));
        };
        let Ok(layer) = found.link.clone() else {
            return Ok(Err("its link layer is not known".into()));
        };
        let settings = info::read(&pins.info())?;
        let on = (found.name.as_str(), layer);
        match post(settings, on, self.pins(), &pins, &pins.stages()) {
            Ok(()) => Ok(Ok(())),
            Err(DatapathError::NoProof(reason)) => Ok(Err(format!(
                "this kernel takes no proof: {reason}; limit SYNs by `tfo policy`"
            ))),
            Err(error) => Err(error.into()),
        }
    }

    /// Whether an interface has the guard's programs.
    pub fn has_guard(&self, index: u32) -> bool {
        self.pins().interface(index).guard().exists()
    }

    /// What has to be done in every slot of time: another secret, and what the host's settings say. Nothing where
    /// there is no guard.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn refresh_guard(&self) -> Result<(), DatapathError> {
        match self.guards()? {
            Some(mut store) if store.is_armed()? => store.refresh(),
            _ => Ok(()),
        }
    }
}
