//! The own cookies of a namespace, apart from their programs.

use tfo_common::abi::OWN_COOKIES;

use super::{current::Namespace, error::NamespaceError};
use crate::{
    datapath::{
        error::DatapathError,
        maps::{OwnCookieStore, SwitchStore},
        pins::{found_maps, map_from_pin},
    },
    model::OwnCookieRing,
};

/// The own cookies of a namespace; from [`Namespace::own_cookies`].
///
/// [`OwnCookieChange`](crate::datapath::OwnCookieChange) changes them: that attaches or detaches programs.
pub struct NamespaceOwnCookies<'a>(&'a Namespace);

impl Namespace {
    /// Access to the own cookies.
    pub const fn own_cookies(&self) -> NamespaceOwnCookies<'_> {
        NamespaceOwnCookies(self)
    }
}

impl NamespaceOwnCookies<'_> {
    /// The map; [`NamespaceError::NothingAttached`] where nothing is attached.
    pub(crate) fn store(&self) -> Result<OwnCookieStore, NamespaceError> {
        self.open()?.ok_or_else(NamespaceError::nothing_attached)
    }

    fn open(&self) -> Result<Option<OwnCookieStore>, DatapathError> {
        let pins = self.0.pins();
        let store = SwitchStore::open(pins).and_then(|switches| {
            let map = map_from_pin(&pins.map(OWN_COOKIES), OWN_COOKIES)?;
            OwnCookieStore::new(switches, map, Some(pins))
        });
        found_maps(store)
    }

    /// Rules and secrets in force; `None` where there are none, or nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn get(&self) -> Result<Option<OwnCookieRing>, DatapathError> {
        self.open()?.map_or(Ok(None), |store| store.get())
    }

    /// The interface of this index issues own cookies.
    pub fn is_issuing(&self, index: u32) -> bool {
        self.0.pins().interface(index).has_egress()
    }
}
