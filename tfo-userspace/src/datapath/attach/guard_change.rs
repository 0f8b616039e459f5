//! Changing the guard: its rules, and its programs on the interfaces that can have them.

use std::time::Duration;

use tfo_common::switches::Switches;
use tokio::time::sleep;

use super::{
    guard_fitness::guard_obstacle,
    guard_programs::{attach_edge, attach_guard, detach_guard},
    joined::{LeftOut, Place, listed, locate},
};
use crate::{
    datapath::{
        error::DatapathError,
        maps::{GuardStore, armed},
        namespace::{AttachedInterface, Namespace, NamespaceError},
        pins::{Lock, read_settings},
    },
    kernel::{
        link::{self, Interface},
        sysctl,
        test_hook::test_hook,
    },
    model::Guard,
};

/// Time that challenged clients have to answer when the guard is cleared, or its secret replaced.
const DRAIN: Duration = Duration::from_secs(3);

const INSIST: &str = ". --force (force = true in [guard]) guards it nevertheless";

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
    #[error("no interface here can be guarded: {}", listed(.0))]
    Nowhere(Vec<LeftOut>),
}

impl From<DatapathError> for GuardError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// The treatment of interfaces on which the guard cannot work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OnUnfit {
    /// They do not have the guard.
    Skip,
    /// They have it.
    Force,
    /// They have it if they had it before.
    Keep,
}

impl OnUnfit {
    /// As the operator says.
    pub const fn of(force: bool) -> Self {
        if force { Self::Force } else { Self::Skip }
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

    /// Puts `guard` in force, or none where it has no rule. Gives the interfaces that do not have it.
    ///
    /// # Errors
    ///
    /// [`GuardError`]; the guard before then stays in force.
    pub async fn apply(
        mut self,
        guard: Option<&Guard>,
        on_unfit: OnUnfit,
    ) -> Result<Vec<LeftOut>, GuardError> {
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
        let mut fit = Vec::new();
        for interface in interfaces {
            let had = self.namespace.guard().is_on(interface.index);
            let checks = on_unfit == OnUnfit::Skip || on_unfit == OnUnfit::Keep && !had;
            match guard_obstacle(&interface).filter(|_| checks) {
                Some(reason) => unguarded.push((interface, reason + INSIST)),
                None => fit.push(interface),
            }
        }
        let present = link::list().await.map_err(NamespaceError::from)?;
        let mut guarded = Vec::new();
        for interface in fit {
            match self.attach(&interface, &present, guard)? {
                Ok(()) => guarded.push(interface),
                Err(reason) => unguarded.push((interface, reason)),
            }
        }
        let named = unguarded.iter().map(|(interface, reason)| LeftOut {
            interface: interface.label(),
            reason: reason.clone(),
        });
        let named = named.collect();
        if guarded.is_empty() {
            return Err(GuardError::Nowhere(named));
        }
        // By force, or before it came to be unfit.
        for (interface, _) in unguarded {
            detach_guard(&self.namespace.pins().interface(interface.index), 0)?;
        }
        // Under another secret nobody takes the answers to what this host challenged.
        let secret = self.before.as_ref().map(|before| &before.secret);
        let replaced = secret.is_some_and(|secret| *secret != guard.secret);
        if replaced && self.store.has_challenged(drain_time())? {
            self.set_after_drain(Some(guard)).await?;
        } else {
            // Also where nothing changed: the host's window scale and MSS may have.
            self.store.set(Some(guard))?;
        }
        for interface in guarded {
            let pins = self.namespace.pins().interface(interface.index);
            detach_guard(&pins, armed(guard))?;
        }
        Ok(named)
    }

    /// Stops challenging, waits for the answers to challenges, and puts `guard` in force, or none; on failure the one before.
    async fn set_after_drain(&mut self, guard: Option<&Guard>) -> Result<(), GuardError> {
        let before = self.store.entries()?;
        let set = match self.store.pause(&before) {
            Ok(()) => {
                sleep(drain_time()).await;
                self.store.set_after(&before, guard)
            }
            Err(error) => Err(error),
        };
        if set.is_err() {
            // The first error is the one to report.
            let _ = self.store.resume(&before);
        }
        Ok(set?)
    }

    /// Puts no guard in force, and detaches the programs.
    async fn clear(&mut self, interfaces: &[AttachedInterface]) -> Result<(), GuardError> {
        self.set_after_drain(None).await?;
        sysctl::show_output_routes(false)
            .map_err(|(path, source)| GuardError::Routes { path, source })?;
        for interface in interfaces {
            detach_guard(&self.namespace.pins().interface(interface.index), 0)?;
        }
        Ok(())
    }

    /// Attaches the guard's programs. The inner error is why the interface cannot have them.
    fn attach(
        &self,
        interface: &AttachedInterface,
        present: &[Interface],
        guard: &Guard,
    ) -> Result<Result<(), String>, GuardError> {
        let (mode, name, link) = match locate(interface, present) {
            Ok(located) => located,
            Err(reason) => return Ok(Err(reason.into())),
        };
        let pins = self.namespace.pins().interface(interface.index);
        let place = Place {
            settings: read_settings(&pins.info())?,
            name,
            link,
            namespace: self.namespace.pins(),
            pins: &pins,
            mode,
            tail_calls: &pins.tail_calls(),
        };
        // Also where they may be: one that was left out meanwhile has lost them.
        if !guard.edges.is_empty() {
            attach_edge(&place)?;
        }
        if !guard.is_for_host() {
            return Ok(Ok(()));
        }
        if pins.guard().exists() {
            let others = self.namespace.guard().before(interface.index, name);
            if others.is_empty() {
                return Ok(Ok(()));
            }
            // Attached again, it is before the others.
            detach_guard(&pins, Switches::GUARD_EDGE)?;
        }
        match attach_guard(&place) {
            Ok(()) => Ok(Ok(())),
            Err(error @ DatapathError::NoKfunc(_)) => {
                Ok(Err(format!("{error}; limit SYNs by `tfo policy`")))
            }
            Err(error) => Err(error.into()),
        }
    }
}

/// [`DRAIN`], or what a test sets, in seconds.
fn drain_time() -> Duration {
    test_hook!("TFO_TEST_GUARD_DRAIN").map_or(DRAIN, Duration::from_secs)
}
