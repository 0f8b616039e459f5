//! The data path's view of the namespace's routing.

use tfo_common::switches::Switches;

use super::current::Namespace;
use crate::{
    datapath::{
        error::DatapathError,
        maps::RouteStore,
        pins::{found_maps, map_from_pin},
    },
    kernel::sysctl,
};

impl Namespace {
    /// Brings the data path's local routes in line with the kernel's. Does nothing where nothing is attached.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where rtnetlink or a map fails.
    pub fn follow_routes(&self) -> Result<(), DatapathError> {
        let pins = self.pins();
        let store = found_maps(RouteStore::of(|name| map_from_pin(&pins.map(name), name)))?;
        let Some(mut store) = store else {
            return Ok(());
        };
        store.sync()?;
        self.show_output_routes()
    }

    /// Has the kernel go on to show the guard the routes of answers. Does nothing without a guard.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map or the sysctl fails.
    pub fn show_output_routes(&self) -> Result<(), DatapathError> {
        if !self.guard().switches()?.has(Switches::GUARD) {
            return Ok(());
        }
        // An operator's `sysctl -w net.ipv4.ip_forward=0` resets it on all devices.
        sysctl::show_output_routes(true).map_err(|(path, source)| DatapathError::Io {
            path: path.into(),
            source,
        })
    }
}
