//! Changing own cookies: their rules and secrets, and their programs on the interfaces.

use std::fmt;

use tfo_common::fastopen::own::OwnCookies;

use super::own_programs::{attach_own, detach_own};
use crate::{
    datapath::{
        error::DatapathError,
        maps::OwnCookieStore,
        namespace::{AttachedInterface, Namespace, NamespaceError},
        pins::{Lock, read_settings},
    },
    kernel::link,
    model::{Mirror, OwnCookieRing},
};

/// Own cookies were not changed.
#[derive(Debug, thiserror::Error)]
pub enum OwnCookieError {
    /// The namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// No interface can have the programs.
    #[error("no interface here can have own cookies: {}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Nowhere(Vec<Untranslating>),
}

impl From<DatapathError> for OwnCookieError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// An interface that cannot have the programs: it issues the kernel's cookies, and takes no own ones.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Untranslating {
    /// The interface's name.
    pub interface: String,
    /// Cause and remedy.
    pub reason: String,
}

impl fmt::Display for Untranslating {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.interface, self.reason)
    }
}

/// A change of a namespace's own cookies, which holds the namespace's lock.
pub struct OwnCookieChange<'a> {
    /// What is in force; `None` where there are no own cookies.
    pub before: Option<OwnCookieRing>,
    namespace: &'a Namespace,
    store: OwnCookieStore,
    _lock: Option<Lock>,
}

impl<'a> OwnCookieChange<'a> {
    /// Begins a change: other processes wait until it is applied or dropped.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], or where the map cannot be read.
    pub fn begin(namespace: &'a Namespace) -> Result<Self, OwnCookieError> {
        let lock = namespace.lock()?;
        let store = namespace.own_cookies().store()?;
        Ok(Self {
            before: store.get()?,
            namespace,
            store,
            _lock: lock,
        })
    }

    /// Puts rules and secrets in force, or none. Gives the interfaces that do not take part.
    ///
    /// # Errors
    ///
    /// [`OwnCookieError`]; what was in force then stays so.
    pub async fn apply(
        mut self,
        cookies: Option<&OwnCookies>,
    ) -> Result<Vec<Untranslating>, OwnCookieError> {
        let interfaces = self.namespace.interfaces().await?;
        let Some(cookies) = cookies else {
            // Also where none are seen: a process may have been killed.
            self.store.set(None)?;
            self.detach(&interfaces)?;
            return Ok(Vec::new());
        };
        let attached = self.attach_all(&interfaces).await;
        if attached.is_err() && self.before.is_none() {
            // The first error is the one to report.
            let _ = self.detach(&interfaces);
        }
        let left_out = attached?;
        self.store.set(Some(cookies))?;
        Ok(left_out)
    }

    async fn attach_all(
        &self,
        interfaces: &[AttachedInterface],
    ) -> Result<Vec<Untranslating>, OwnCookieError> {
        let mut left_out = Vec::new();
        for interface in interfaces {
            if let Err(reason) = self.attach(interface).await? {
                left_out.push(Untranslating {
                    interface: interface.label(),
                    reason,
                });
            }
        }
        if left_out.len() == interfaces.len() {
            return Err(OwnCookieError::Nowhere(left_out));
        }
        Ok(left_out)
    }

    fn detach(&self, interfaces: &[AttachedInterface]) -> Result<(), DatapathError> {
        interfaces
            .iter()
            .try_for_each(|each| detach_own(&self.namespace.pins().interface(each.index)))
    }

    /// Replaces the secrets by those of `cookies`, which have the same rules.
    ///
    /// # Errors
    ///
    /// [`OwnCookieError`]; the secrets then stay.
    pub fn renew(mut self, cookies: &OwnCookies) -> Result<(), OwnCookieError> {
        Ok(self.store.set(Some(cookies))?)
    }

    /// Attaches the programs. The inner error is why the interface cannot have them.
    async fn attach(
        &self,
        interface: &AttachedInterface,
    ) -> Result<Result<(), String>, OwnCookieError> {
        let Some(mode) = interface.mode else {
            return Ok(Err("tfo is no longer attached there".into()));
        };
        let pins = self.namespace.pins().interface(interface.index);
        let settings = read_settings(&pins.info())?;
        if settings.mirror == Mirror::Packet {
            return Ok(Err(
                "with --mirror packet the keys of listeners, to which cookies are translated, are not read: attach it with --mirror exact"
                    .into(),
            ));
        }
        if pins.egress().exists() {
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
        let on = (found.name.as_str(), layer);
        let array = pins.tail_calls();
        let namespace = self.namespace.pins();
        match attach_own(settings, on, namespace, &pins, (mode, array.as_path())) {
            Ok(()) => Ok(Ok(())),
            Err(DatapathError::Program(error)) if is_no_tcx(&error) => Ok(Err(
                "issuing own cookies takes TCX, which Linux has since 6.6".into(),
            )),
            Err(error) => Err(error.into()),
        }
    }
}

/// The kernel has no TCX.
fn is_no_tcx(error: &aya::programs::ProgramError) -> bool {
    matches!(
        error,
        aya::programs::ProgramError::SyscallError(call)
            if call.io_error.kind() == std::io::ErrorKind::InvalidInput
    )
}
