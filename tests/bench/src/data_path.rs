//! Configurations of the data path.

use std::net::{Ipv6Addr, SocketAddr};

use anyhow::{Result, ensure};
use tfo_common::counters::Counter;
use tfo_testbed::{
    keys,
    netns::Netns,
    program::{Changes, KeyBytes, Program},
    socket::Listener,
};
use tfo_userspace::{
    datapath::{EventFilter, EventStream},
    model::{Decap, Mirror, Settings, Tunnel},
};

use crate::measure::{self, Hook};

/// The keys in force, and the port of the listener.
pub(crate) const PRIMARY: KeyBytes = *b"a primary key...";
pub(crate) const BACKUP: KeyBytes = *b"a backup key....";
pub(crate) const PORT: u16 = 443;
/// The last tunnel that is looked for.
const GUE: Tunnel = Tunnel::Gue(GUE_PORT);
pub(crate) const GUE_PORT: u16 = 6080;

/// A configuration. All but [`With::Exact`] use [`Mirror::Packet`].
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum With {
    /// None of the features below.
    Bare,
    /// [`Mirror::Exact`]: looks up the listener.
    Exact,
    /// Counts by source prefix.
    Sources,
    /// Reads through tunnels of every kind, from any source.
    Tunnels,
    /// A reader of events at the default rate limit: almost all events exceed it.
    OverRate,
    /// A reader of events without a rate limit. Both this and the empty program run in small chunks, so system calls
    /// are most of both times.
    Told,
}

impl With {
    pub(crate) const ALL: [Self; 6] = [
        Self::Bare,
        Self::Exact,
        Self::Sources,
        Self::Tunnels,
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
    program: Program,
    hook: Hook,
    events: Option<EventStream>,
}

impl Tfo {
    pub(crate) fn new(with: With, hook: Hook) -> Result<Self> {
        let mut settings = settings(match with {
            With::Exact => Mirror::Exact,
            _ => Mirror::Packet,
        });
        if with == With::Sources {
            settings.sources = Settings::from(Mirror::Packet).sources;
        }
        if with == With::Tunnels {
            settings.decap = tunnels()?;
        }
        let keys = [PRIMARY, BACKUP];
        let mut program = match hook {
            Hook::Xdp => Program::with_settings(settings, &keys)?,
            // The one that loads the TC programs too.
            Hook::Tc => Program::translating(settings, &keys)?,
        };
        let mut filter = EventFilter::default();
        let events = match with {
            With::Bare | With::Exact | With::Sources | With::Tunnels => None,
            With::OverRate => Some(program.datapath().take_events(filter)?),
            With::Told => {
                filter.rate = u32::MAX;
                Some(program.datapath().take_events(filter)?)
            }
        };
        Ok(Self {
            program,
            hook,
            events,
        })
    }

    pub(crate) fn program(&self) -> Result<measure::Program<'_>> {
        entry(&self.program, self.hook)
    }

    /// Runs it once on a frame, which must pass. Returns the changes of all counters.
    pub(crate) fn count(&self, frame: &[u8]) -> Result<Changes> {
        let before = self.program.counters()?.total;
        let verdict = self.program()?.verdict(frame)?;
        ensure!(verdict == self.hook.passes(), "verdict {verdict}");
        let after = self.program.counters()?.total;
        let amounts = Counter::ALL.map(|counter| {
            let amount = after.get(counter).wrapping_sub(before.get(counter));
            (counter.name(), amount)
        });
        Ok(amounts
            .into_iter()
            .filter(|(_, amount)| *amount != 0)
            .collect())
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

/// Each kind of tunnel, from any source.
fn tunnels() -> Result<Decap> {
    let tunnels = [Tunnel::Ipip, Tunnel::Gre, Tunnel::Fou(5555), GUE];
    let sources = ["0.0.0.0/0", "::/0"].map(str::parse);
    let [v4, v6] = sources.map(|it| it.map_err(anyhow::Error::msg));
    Decap::new(&tunnels, &[v4?, v6?]).map_err(anyhow::Error::msg)
}

/// Settings without counters by source.
pub(crate) fn settings(mirror: Mirror) -> Settings {
    let mut settings = Settings::from(mirror);
    settings.sources.max = 0;
    settings
}

/// The entry program of a hook.
pub(crate) fn entry(program: &Program, hook: Hook) -> Result<measure::Program<'_>> {
    Ok(match hook {
        Hook::Xdp => measure::Program::Xdp(program.xdp()?),
        Hook::Tc => measure::Program::Tc(program.classifiers()?.0),
    })
}

/// A network namespace with the keys of the data path, and a listener with Fast Open at [`PORT`].
pub(crate) fn listening(name: &str) -> Result<(Netns, Listener)> {
    let netns = Netns::new(name)?;
    netns.set_sysctl("net.ipv4.tcp_fastopen", "3")?;
    // The listener's keys are the kernel's.
    netns.set_sysctl(keys::SYSCTL, &[PRIMARY, BACKUP].map(text).join(","))?;
    let any = SocketAddr::new(Ipv6Addr::UNSPECIFIED.into(), PORT);
    let listener = Listener::fast_open(&netns, any)?;
    Ok((netns, listener))
}

/// A key in the format of `net.ipv4.tcp_fastopen_key`: four little-endian words in hex, joined by `-`.
fn text(key: KeyBytes) -> String {
    let (words, _) = key.as_chunks::<4>();
    let words = words.iter().map(|word| u32::from_le_bytes(*word));
    words
        .map(|word| format!("{word:08x}"))
        .collect::<Vec<_>>()
        .join("-")
}
