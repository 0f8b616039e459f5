//! The data paths that are measured.

use anyhow::Result;
use tfo_testbed::program::Program;
use tfo_userspace::{
    datapath::{EventFilter, EventStream},
    model::{Mirror, Settings},
};

use crate::cases::{BACKUP, PRIMARY};

/// How the data path is set up. But for [`With::Exact`], the packet and the keys decide alone.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// Without all of the below.
    Bare,
    /// It looks up the listener.
    Exact,
    /// It counts by source.
    Sources,
    /// Someone listens to events, at the default rate: almost all are over it.
    OverRate,
    /// Someone listens to events, and there is no limit. It runs in small chunks, and so does the empty
    /// program beside it: the system calls are then most of both.
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

    /// Fewer events than a ring has room for.
    const RING: u32 = 4000;

    /// Runs after which the ring is emptied, which is not measured.
    pub(crate) fn chunk(self, runs: u32) -> u32 {
        if self == Self::Told {
            runs.min(Self::RING)
        } else {
            runs
        }
    }
}

/// A data path that is set up.
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

    /// Listens anew, and forgets what was told.
    pub(crate) fn listen(&mut self) -> Result<()> {
        if let Some(events) = &mut self.events {
            events.listen()?;
            while events.next_event().is_some() {}
        }
        Ok(())
    }
}
