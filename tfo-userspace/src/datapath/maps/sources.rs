//! Counts by source prefix.

use std::{collections::BTreeMap, io};

use aya::maps::{Map, MapError};
use tfo_common::{
    abi::{
        SOURCES,
        sources::{SourceCounter, SourceCounts},
    },
    wire::addresses::Address,
};

use super::batch;
use crate::{
    datapath::error::DatapathError,
    model::{Prefix, SourceLimits},
};

/// Fewer sources tell nothing of a pool of addresses.
const POOL: usize = 32;

/// Counts of each source prefix that the map keeps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sources(pub BTreeMap<Prefix, SourceCounts>);

impl Sources {
    /// Adds one interface's map. Packets change it during the read.
    pub(crate) fn add(&mut self, map: &Map, limits: SourceLimits) -> Result<(), DatapathError> {
        if limits.max == 0 {
            return Ok(());
        }
        let error = |source: io::Error| DatapathError::map(SOURCES)(MapError::IoError(source));
        let Map::LruHashMap(map) = map else {
            return Err(error(io::Error::other("not an LRU hash")));
        };
        // Packets replace entries during the read, so it may return more than the map holds.
        let most = 2 * limits.max as usize;
        let entries = batch::entries::<Address, SourceCounts>(map, most).map_err(error)?;
        for (key, counts) in entries {
            let prefix = Prefix::of_map(key, limits.v4, limits.v6);
            *self.0.entry(prefix).or_default() += counts;
        }
        Ok(())
    }

    /// The `number` prefixes of the greatest [`SourceCounts::weight`], greatest first.
    pub fn top(&self, number: usize) -> Vec<(Prefix, SourceCounts)> {
        let mut all: Vec<_> = self.0.iter().map(|(prefix, it)| (*prefix, *it)).collect();
        all.sort_by_key(|(_, counts)| std::cmp::Reverse(counts.weight()));
        all.truncate(number);
        all
    }

    /// Number of prefixes that request cookies and never use one: [`SourceCounts::asks_without_using`].
    pub fn ask_without_using(&self) -> usize {
        self.0.values().filter(|it| it.asks_without_using()).count()
    }

    /// Number of prefixes that were given one cookie and sent none since.
    pub fn asked_once(&self) -> usize {
        let once = |counts: &&SourceCounts| {
            counts.weight() == 1 && counts.get(SourceCounter::Requests) == 1
        };
        self.0.values().filter(once).count()
    }

    /// Returns an explanation where nearly all sources asked once; `None` where they did not.
    pub fn hint_of_pool(&self) -> Option<String> {
        let asked = self.0.values().filter(|counts| counts.weight() > 0).count();
        hint_of_pool(asked, self.asked_once())
    }
}

fn hint_of_pool(asked: usize, once: usize) -> Option<String> {
    (asked >= POOL && once * 10 >= asked * 9).then(|| {
        format!(
            "{once} of {asked} sources were given a cookie and have not come back: new clients, or clients whose address \
             changes with each connection, as behind a pool of addresses; a cookie holds for one address"
        )
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pool_takes_many_sources_of_which_nearly_all_asked_once() {
        for (asked, once, hints) in [
            (0, 0, false),
            (POOL - 1, POOL - 1, false),
            (POOL, POOL, true),
            (100, 90, true),
            (100, 89, false),
        ] {
            assert_eq!(
                hint_of_pool(asked, once).is_some(),
                hints,
                "{once} of {asked}"
            );
        }
        assert_eq!(Sources::default().hint_of_pool(), None);
    }
}
