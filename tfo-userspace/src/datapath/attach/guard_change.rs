//! Changing the guard: its rules, and its programs on the interfaces that can have them.

use std::{fmt, time::Duration};

use tfo_common::guard::GuardMode;
use tokio::time::sleep;

use super::guard_programs::{attach_guard, detach_guard};
use crate::{
    datapath::{
        error::DatapathError,
        maps::GuardStore,
        namespace::{AttachedInterface, Namespace, NamespaceError},
        pins::{Lock, read_settings},
    },
    kernel::{link, sysctl},
    model::{AttachMode, Guard},
};

/// Time that challenged clients have to answer when the guard is cleared.
const DRAIN: Duration = Duration::from_secs(3);

/// The guard was not changed.
#[derive(Debug, thiserror::Error)]
pub enum GuardError {
    /// The namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// The kernel cannot be asked for the routes by which answers leave.
    #[error(
        "cannot write {path}: {source}: the guard asks the kernel for the routes of its answers, which takes a 1 there: write it, or let tfo write to /proc/sys"
    )]
    Routes {
        /// The file.
        path: &'static str,
        /// The kernel's error.
        source: std::io::Error,
    },
    /// No interface can have the guard's programs.
    #[error("no interface here can be guarded: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Nowhere(Vec<Unguarded>),
}

impl From<DatapathError> for GuardError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// An interface that cannot have the guard's programs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Unguarded {
    /// The interface's name.
    pub interface: String,
    /// Cause and remedy.
    pub reason: String,
}

impl fmt::Display for Unguarded {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.interface, self.reason)
    }
}

/// A change of a namespace's guard, which holds the namespace's lock.
pub struct GuardChange<'a> {
    /// The guard in force; `None` where there is none.
    pub before: Option<Guard>,
    namespace: &'a Namespace,
    store: GuardStore,
    _lock: Option<Lock>,
}

impl<'a> GuardChange<'a> {
    /// Begins a change: other processes wait until it is applied or dropped.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], or where a map cannot be read.
    pub fn begin(namespace: &'a Namespace) -> Result<Self, GuardError> {
        let lock = namespace.lock()?;
        let store = namespace.guard().store()?;
        Ok(Self {
            before: store.get()?,
            namespace,
            store,
            _lock: lock,
        })
    }

    /// Puts `guard` in force, or none where it has no rule. Gives the interfaces that cannot have it.
    ///
    /// # Errors
    ///
    /// [`GuardError`]; the guard before then stays in force.
    pub async fn apply(mut self, guard: Option<&Guard>) -> Result<Vec<Unguarded>, GuardError> {
        let interfaces = self.namespace.interfaces().await?;
        let Some(guard) = guard.filter(|guard| !guard.is_empty()) else {
            if self.before.is_some() {
                self.clear(&interfaces).await?;
            }
            return Ok(Vec::new());
        };
        sysctl::show_output_routes(true)
            .map_err(|(path, source)| GuardError::Routes { path, source })?;
        self.namespace.follow_routes()?;
        let mut unguarded = Vec::new();
        for interface in &interfaces {
            if let Err(reason) = self.attach(interface).await? {
                unguarded.push(Unguarded {
                    interface: interface.label(),
                    reason,
                });
            }
        }
        if unguarded.len() == interfaces.len() {
            return Err(GuardError::Nowhere(unguarded));
        }
        if self.before.as_ref() != Some(guard) {
            self.store.set(Some(guard))?;
        }
        Ok(unguarded)
    }

    /// Stops challenging, waits for the answers to challenges, then detaches the programs.
    async fn clear(&mut self, interfaces: &[AttachedInterface]) -> Result<(), GuardError> {
        if let Some(mut guard) = self.store.get()? {
            let rules = guard.default.iter_mut().chain(guard.ports.values_mut());
            rules.for_each(|rule| rule.mode = GuardMode::Off);
            self.store.set(Some(&guard))?;
            sleep(DRAIN).await;
        }
        self.store.set(None)?;
        sysctl::show_output_routes(false)
            .map_err(|(path, source)| GuardError::Routes { path, source })?;
        for interface in interfaces {
            detach_guard(&self.namespace.pins().interface(interface.index))?;
        }
        Ok(())
    }

    /// Attaches the guard's programs. The inner error is why the interface cannot have them.
    async fn attach(
        &self,
        interface: &AttachedInterface,
    ) -> Result<Result<(), String>, GuardError> {
        match interface.mode {
            None => return Ok(Err("tfo is no longer attached there".into())),
            Some(AttachMode::Tc) => {
                return Ok(Err(
                    "it runs in traffic control, where no frame can be answered: attach it in XDP (--mode native or generic), or limit SYNs by `tfo policy`".into(),
                ));
            }
            Some(_) => {}
        }
        let pins = self.namespace.pins().interface(interface.index);
        if pins.guard().exists() {
            return Ok(Ok(()));
        }
        let found = link::list().await.map_err(NamespaceError::from)?;
        let found = found.into_iter().find(|each| each.index == interface.index);
        let Some(found) = found else {
            return Ok(Err("the interface is gone".into()));
        };
        let Ok(layer) = found.link.clone() else {
            return Ok(Err("its link layer is not known".into()));
        };
        let settings = read_settings(&pins.info())?;
        let on = (found.name.as_str(), layer);
        let tail_calls = pins.tail_calls();
        match attach_guard(settings, on, self.namespace.pins(), &pins, &tail_calls) {
            Ok(()) => Ok(Ok(())),
            Err(error @ DatapathError::NoKfunc(_)) => {
                Ok(Err(format!("{error}; limit SYNs by `tfo policy`")))
            }
            Err(error) => Err(error.into()),
        }
    }
}
