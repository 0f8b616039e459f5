//! What came from whom.

use std::{collections::BTreeMap, io};

use aya::maps::{Map, MapError};
use tfo_common::{
    maps::SOURCES,
    sources::{Address, SourceCounts},
};

use super::{DatapathError, Namespace, NamespaceError, batch, info, program::map_from_pin};
use crate::model::{Prefix, SourceLimits};

/// What came from each prefix, of those that are kept.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub BTreeMap<Prefix, SourceCounts>);

impl Sources {
    /// Reads one interface's map. Packets change it meanwhile.
    pub(super) fn add(&mut self, map: &Map, limits: SourceLimits) -> Result<(), DatapathError> {
        if limits.max == 0 {
            return Ok(());
        }
        let error = |source: io::Error| DatapathError::map(SOURCES)(MapError::IoError(source));
        let Map::LruHashMap(map) = map else {
            return Err(error(io::Error::other("it is no LRU hash")));
        };
        // Packets come meanwhile: more may pass by than there is room for.
        let most = 2 * limits.max as usize;
        let entries = batch::entries::<Address, SourceCounts>(map, most).map_err(error)?;
        for (key, counts) in entries {
            let address = key.ip();
            let len = if address.is_ipv4() {
                limits.v4
            } else {
                limits.v6
            };
            *self.0.entry(Prefix { address, len }).or_default() += counts;
        }
        Ok(())
    }

    /// Those with the most requests, uses and failures, most first.
    pub fn top(&self, number: usize) -> Vec<(Prefix, SourceCounts)> {
        let mut all: Vec<_> = self.0.iter().map(|(prefix, it)| (*prefix, *it)).collect();
        all.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.weight()));
        all.truncate(number);
        all
    }

    /// How many ask again and again and never use a cookie: [`SourceCounts::asks_without_using`].
    pub fn ask_without_using(&self) -> usize {
        self.0.values().filter(|it| it.asks_without_using()).count()
    }
}

impl Namespace {
    /// What came from each prefix, on all attached interfaces.
    ///
    /// # Errors
    ///
    /// [`NamespaceError`] where a map cannot be read.
    pub fn sources(&self) -> Result<Sources, NamespaceError> {
        let mut sources = Sources::default();
        for pins in self.pins().interfaces()? {
            let limits = info::read(&pins.info())?.sources;
            sources.add(&map_from_pin(&pins.map(SOURCES), SOURCES)?, limits)?;
        }
        Ok(sources)
    }

    /// What came from each prefix on one interface, and how many prefixes it has room for. `None` where
    /// that is more than `most`, which would take long, and much memory.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn sources_of(
        &self,
        index: u32,
        most: u32,
    ) -> Result<(Option<Sources>, u32), DatapathError> {
        let pins = self.pins().interface(index);
        let limits = info::read(&pins.info())?.sources;
        if limits.max > most {
            return Ok((None, limits.max));
        }
        let mut sources = Sources::default();
        sources.add(&map_from_pin(&pins.map(SOURCES), SOURCES)?, limits)?;
        Ok((Some(sources), limits.max))
    }
}
