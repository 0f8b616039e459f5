//! The event streams of a namespace's interfaces.

use tfo_common::abi::{EVENT_BUDGET, EVENT_GATE, EVENTS};

use super::{current::Namespace, error::NamespaceError};
use crate::datapath::{
    maps::{EventFilter, EventStream},
    pins::map_from_pin,
};

impl Namespace {
    /// Opens the streams of all attached interfaces. Each has one reader at a time.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`]; [`NamespaceError::EventsTaken`] where another process reads them;
    /// or where a map cannot be opened.
    pub fn events(&self, filter: EventFilter) -> Result<Vec<EventStream>, NamespaceError> {
        let interfaces = self.pins().interfaces()?;
        if interfaces.is_empty() {
            return Err(NamespaceError::nothing_attached());
        }
        let mut streams = Vec::new();
        for pins in &interfaces {
            let lock = pins.try_lock()?.ok_or(NamespaceError::EventsTaken)?;
            let open = |name| map_from_pin(&pins.map(name), name);
            let maps = [open(EVENTS)?, open(EVENT_GATE)?, open(EVENT_BUDGET)?];
            streams.push(EventStream::new(
                maps,
                filter,
                interfaces.len(),
                Some(lock),
            )?);
        }
        Ok(streams)
    }
}
