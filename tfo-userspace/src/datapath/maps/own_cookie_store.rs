//! The rules and secrets of own cookies.

use std::fs;

use aya::maps::{Array, ArrayOfMaps, Map, MapData, MapError};
use tfo_common::{abi::OWN_COOKIES, fastopen::own::OwnCookies, switches::Switches};

use super::{inner_map, switch_store::SwitchStore};
use crate::{
    datapath::{
        error::DatapathError,
        pins::{NamespacePins, remove_file},
    },
    model::OwnCookieRing,
};

type Inner = Array<MapData, OwnCookies>;

/// The map of maps `OWN_COOKIES`, and its switch.
pub(crate) struct OwnCookieStore {
    switches: SwitchStore,
    outer: ArrayOfMaps<MapData, Inner>,
    /// The pins of the inner map, since reading it through the outer one takes `CAP_SYS_ADMIN`;
    /// `None` where nothing is pinned.
    pins: Option<NamespacePins>,
}

impl OwnCookieStore {
    /// Takes the outer map; `pinned` where it is pinned.
    pub(crate) fn new(
        switches: SwitchStore,
        map: Map,
        pinned: Option<&NamespacePins>,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            switches,
            outer: map.try_into().map_err(DatapathError::map(OWN_COOKIES))?,
            pins: pinned.cloned(),
        })
    }

    /// Returns the own cookies in force; `None` where there are none.
    pub(crate) fn get(&self) -> Result<Option<OwnCookieRing>, DatapathError> {
        let error = DatapathError::map(OWN_COOKIES);
        let path = self.pins.as_ref().map(|pins| pins.in_force(OWN_COOKIES));
        let inner: Inner = match (self.outer.get(&0, 0), path) {
            (Ok(inner), _) => inner,
            (Err(MapError::KeyNotFound), _) => return Ok(None),
            // Not permitted.
            (Err(_), Some(path)) if path.exists() => inner_map::open(&path, OWN_COOKIES)?,
            (Err(_), Some(_)) => return Ok(None),
            (Err(failed), None) => return Err(error(failed)),
        };
        let cookies = inner.get(&0, 0).map_err(&error)?;
        Ok(cookies.is_on().then(|| OwnCookieRing::new(cookies)))
    }

    /// Puts rules and secrets, or none, in force as a whole. When this returns, no packet meets the previous ones any more.
    pub(crate) fn set(&mut self, cookies: Option<&OwnCookies>) -> Result<(), DatapathError> {
        if cookies.is_none() {
            self.switch(0)?;
        }
        self.put(cookies)?;
        if cookies.is_some() {
            self.switch(Switches::OWN_COOKIES)?;
        }
        Ok(())
    }

    fn switch(&mut self, bit: u32) -> Result<(), DatapathError> {
        let change = |switches: Switches| switches.replaced(Switches::OWN_COOKIES, bit);
        self.switches.change(change)
    }

    fn put(&mut self, cookies: Option<&OwnCookies>) -> Result<(), DatapathError> {
        let error = DatapathError::map(OWN_COOKIES);
        let mut inner = Inner::create(1, 0).map_err(&error)?;
        inner
            .set(0, cookies.unwrap_or(&OwnCookies::OFF), 0)
            .map_err(&error)?;
        let Some(pins) = &self.pins else {
            return self.outer.set(0, &inner, 0).map_err(&error);
        };
        let (next, path) = (pins.next(OWN_COOKIES), pins.in_force(OWN_COOKIES));
        let pinned = inner_map::pin(inner, &next, OWN_COOKIES)?;
        self.outer.set(0, &pinned, 0).map_err(&error)?;
        if cookies.is_none() {
            // The pin before it, with its secrets, goes too.
            remove_file(&path)?;
            return remove_file(&next);
        }
        fs::rename(&next, &path).map_err(DatapathError::io(&next))
    }
}
