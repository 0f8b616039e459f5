//! Changing own cookies: their rules and secrets, and their programs on the interfaces.

use tfo_common::fastopen::own::OwnCookies;

use super::{
    joined::{LeftOut, Place, listed, locate},
    own_programs::{attach_own, detach_own},
};
use crate::{
    datapath::{
        error::DatapathError,
        maps::OwnCookieStore,
        namespace::{AttachedInterface, Namespace, NamespaceError},
        pins::{Lock, read_settings},
    },
    kernel::link::{self, Interface},
    model::{Mirror, OwnCookieRing},
};

/// Own cookies were not changed.
#[derive(Debug, thiserror::Error)]
pub enum OwnCookieError {
    /// The namespace.
    #[error(transparent)]
    Namespace(#[from] NamespaceError),
    /// No interface can have the programs.
    #[error("no interface here can have own cookies: {}", listed(.0))]
    Nowhere(Vec<LeftOut>),
}

impl From<DatapathError> for OwnCookieError {
    fn from(error: DatapathError) -> Self {
        Self::Namespace(error.into())
    }
}

/// A change of a namespace's own cookies, which holds the namespace's lock.
pub struct OwnCookieChange<'a> {
    /// The own cookies in force; `None` where there are none.
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
    ) -> Result<Vec<LeftOut>, OwnCookieError> {
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
    ) -> Result<Vec<LeftOut>, OwnCookieError> {
        let present = link::list().await.map_err(NamespaceError::from)?;
        let mut left_out = Vec::new();
        for interface in interfaces {
            if let Err(reason) = self.attach(interface, &present)? {
                left_out.push(LeftOut {
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
    fn attach(
        &self,
        interface: &AttachedInterface,
        present: &[Interface],
    ) -> Result<Result<(), String>, OwnCookieError> {
        let (mode, name, link) = match locate(interface, present) {
            Ok(located) => located,
            Err(reason) => return Ok(Err(reason.into())),
        };
        let pins = self.namespace.pins().interface(interface.index);
        let settings = read_settings(&pins.info())?;
        if settings.mirror == Mirror::Packet {
            return Ok(Err(
                "with --mirror packet the keys of listeners, to which cookies are translated, are not read: attach it with --mirror exact"
                    .into(),
            ));
        }
        if pins.has_egress() {
            return Ok(Ok(()));
        }
        let place = Place {
            settings,
            name,
            link,
            namespace: self.namespace.pins(),
            pins: &pins,
            mode,
            tail_calls: &pins.tail_calls(),
        };
        Ok(Ok(attach_own(&place)?))
    }
}
