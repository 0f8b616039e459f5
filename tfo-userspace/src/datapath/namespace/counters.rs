//! Counters of one interface, and their sums over a namespace's.

use tfo_common::abi::{COUNTERS, EVENT_BUDGET, SIZES, SLOTS_TAKEN, SOURCES, sizes::Sizes};

use super::current::Namespace;
use crate::datapath::{
    error::DatapathError,
    maps::{Lost, Snapshot, Sources, read_sizes},
    pins::{InterfacePins, map_from_pin, read_settings},
};

/// The counters of one interface.
pub struct InterfaceCounters {
    pins: InterfacePins,
}

impl InterfaceCounters {
    /// Reads the counters.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn read(&self) -> Result<Snapshot, DatapathError> {
        Snapshot::read(
            &map_from_pin(&self.pins.map(COUNTERS), COUNTERS)?,
            &map_from_pin(&self.pins.map(SLOTS_TAKEN), SLOTS_TAKEN)?,
        )
    }

    /// Reads the histogram of SYN data sizes.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sizes(&self) -> Result<Sizes, DatapathError> {
        read_sizes(&map_from_pin(&self.pins.map(SIZES), SIZES)?)
    }

    /// Reads the counts by source prefix, and the capacity of their map in prefixes. The counts are `None` where
    /// the capacity is above `most`: reading them takes time and memory.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sources(&self, most: u32) -> Result<(Option<Sources>, u32), DatapathError> {
        let capacity = read_settings(&self.pins.info())?.sources.max;
        if capacity > most {
            return Ok((None, capacity));
        }
        let mut sources = Sources::default();
        self.add_sources(&mut sources)?;
        Ok((Some(sources), capacity))
    }

    /// Reads the numbers of dropped events, whoever read the stream.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn events_lost(&self) -> Result<Lost, DatapathError> {
        Lost::read(&map_from_pin(&self.pins.map(EVENT_BUDGET), EVENT_BUDGET)?)
    }

    fn add_sources(&self, sources: &mut Sources) -> Result<(), DatapathError> {
        let limits = read_settings(&self.pins.info())?.sources;
        sources.add(&map_from_pin(&self.pins.map(SOURCES), SOURCES)?, limits)
    }
}

impl Namespace {
    /// The counters of the interface of this index.
    pub fn counters_of(&self, index: u32) -> InterfaceCounters {
        InterfaceCounters {
            pins: self.pins().interface(index),
        }
    }

    /// The sum of [`InterfaceCounters::read`] over attached interfaces.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn counters(&self) -> Result<Snapshot, DatapathError> {
        self.sum(|sum: &mut Snapshot, each| {
            *sum += each.read()?;
            Ok(())
        })
    }

    /// The sum of [`InterfaceCounters::sizes`] over attached interfaces.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn sizes(&self) -> Result<Sizes, DatapathError> {
        self.sum(|sum: &mut Sizes, each| {
            *sum += each.sizes()?;
            Ok(())
        })
    }

    /// The sum of [`InterfaceCounters::sources`] over attached interfaces.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn sources(&self) -> Result<Sources, DatapathError> {
        self.sum(|sum, each| each.add_sources(sum))
    }

    /// The sum of [`InterfaceCounters::events_lost`] over attached interfaces.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn events_lost(&self) -> Result<Lost, DatapathError> {
        self.sum(|sum: &mut Lost, each| {
            *sum += each.events_lost()?;
            Ok(())
        })
    }

    fn sum<T: Default>(
        &self,
        add: impl Fn(&mut T, &InterfaceCounters) -> Result<(), DatapathError>,
    ) -> Result<T, DatapathError> {
        let mut sum = T::default();
        for pins in self.pins().interfaces()? {
            add(&mut sum, &InterfaceCounters { pins })?;
        }
        Ok(sum)
    }
}
