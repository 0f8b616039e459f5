//! The switches of the namespace.

use std::os::fd::AsFd as _;

use aya::maps::{Array, Map, MapData, MapError};
use tfo_common::{abi::SWITCHES, switches::Switches};

use crate::datapath::{
    error::DatapathError,
    pins::{NamespacePins, map_from_pin},
};

/// The map `SWITCHES`.
pub(crate) struct SwitchStore(Array<MapData, Switches>);

impl SwitchStore {
    /// Opens the pinned map.
    pub(crate) fn open(pins: &NamespacePins) -> Result<Self, DatapathError> {
        let map = map_from_pin(&pins.map(SWITCHES), SWITCHES)?;
        let map = map.try_into().map_err(DatapathError::map(SWITCHES))?;
        Ok(Self(map))
    }

    /// Opens the map of an object again.
    pub(crate) fn of(map: &Map) -> Result<Self, DatapathError> {
        let again = || {
            let Map::Array(data) = map else {
                return Err(MapError::InvalidMapType { map_type: 0 });
            };
            let fd = data.fd().as_fd().try_clone_to_owned()?;
            Map::from_map_data(MapData::from_fd(fd)?)?.try_into()
        };
        Ok(Self(again().map_err(DatapathError::map(SWITCHES))?))
    }

    pub(crate) fn get(&self) -> Result<Switches, DatapathError> {
        self.0.get(&0, 0).map_err(DatapathError::map(SWITCHES))
    }

    /// Changes what is on. The caller holds the namespace's lock, or its map is not pinned.
    pub(crate) fn change(
        &mut self,
        change: impl FnOnce(Switches) -> Switches,
    ) -> Result<(), DatapathError> {
        let before = self.get()?;
        let after = change(before);
        if after == before {
            return Ok(());
        }
        self.0
            .set(0, after, 0)
            .map_err(DatapathError::map(SWITCHES))
    }
}
