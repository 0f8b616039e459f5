//! Configurations of the data path.

use anyhow::Result;
use tfo_testbed::program::Program;
use tfo_userspace::{
    datapath::{EventFilter, EventStream},
    model::{Mirror, Settings},
};

use crate::cases::{BACKUP, PRIMARY};

/// A configuration. All but [`With::Exact`] use [`Mirror::Packet`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// None of the features below.
    Bare,
    /// [`Mirror::Exact`]: looks up the listener.
    Exact,
    /// Counts by source prefix.
    Sources,
    /// A reader of events at the default rate limit: almost all events exceed it.
    OverRate,
    /// A reader of events without a rate limit. Both this and the empty program run in small chunks, so system calls
    /// are most of both times.
    Told,
}

impl With {
    pub(crate) const ALL: [Self; 5] = [
        Self::Bare,
        Self::Exact,
        Self::Sources,
        Self::OverRate,
        Self::Told,
    ];

    /// Events that fit in the ring buffer.
    const RING: u32 = 4000;

    /// Runs between two drains of the ring buffer; draining is not timed.
    pub(crate) fn chunk(self, runs: u32) -> u32 {
        if self == Self::Told {
            runs.min(Self::RING)
        } else {
            runs
        }
    }
}

/// A loaded and configured data path.
pub(crate) struct Tfo {
    pub(crate) program: Program,
    events: Option<EventStream>,
}

impl Tfo {
    pub(crate) fn new(with: With) -> Result<Self> {
        let mut settings = Settings::from(match with {
            With::Exact => Mirror::Exact,
            _ => Mirror::Packet,
        });
        if with != With::Sources {
            settings.sources.max = 0;
        }
        let mut program = Program::with_settings(settings, &[PRIMARY, BACKUP])?;
        let mut filter = EventFilter::default();
        let events = match with {
            With::Bare | With::Exact | With::Sources => None,
            With::OverRate => Some(program.datapath().take_events(filter)?),
            With::Told => {
                filter.rate = u32::MAX;
                Some(program.datapath().take_events(filter)?)
            }
        };
        Ok(Self { program, events })
    }

    /// Subscribes again and drains the ring buffer.
    pub(crate) fn listen(&mut self) -> Result<()> {
        if let Some(events) = &mut self.events {
            events.listen()?;
            while events.next_event().is_some() {}
        }
        Ok(())
    }
}
