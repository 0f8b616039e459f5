//! The stream of single SYNs.

use std::time::Duration;

use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use tfo_common::{
    classify::Outcome,
    counters::Counter,
    events::{Event, EventBudget, EventGate},
    maps::{EVENT_BUDGET, EVENT_GATE, EVENTS},
};

use super::{DatapathError, Namespace, NamespaceError, lock::Lock, program::map_from_pin};
use crate::kernel::clock::monotonic;

/// Events per second, where nobody asks for another number.
pub const DEFAULT_RATE: u32 = 10_000;

/// How long events are told after the listener was last heard of.
const PATIENCE: Duration = Duration::from_secs(3);

/// How far a CPU may run ahead of the rate.
const BURST: Duration = Duration::from_millis(100);

/// What a listener wants to hear of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// SYNs to this port alone.
    pub port: Option<u16>,
    /// SYNs that did not get Fast Open for this reason alone.
    pub reason: Option<Counter>,
    /// Events per second, at most.
    pub rate: u32,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self {
            port: None,
            reason: None,
            rate: DEFAULT_RATE,
        }
    }
}

impl EventFilter {
    /// For one of so many CPUs and interfaces, each of which has its share of the rate.
    fn gate(&self, shares: u64) -> EventGate {
        // A policy's reason and the guard's are of those that have none of their own.
        let theirs = [Counter::ReasonPolicy, Counter::ReasonGuard];
        let own = self.reason.filter(|it| !theirs.contains(it));
        let wanted = Outcome::ALL
            .into_iter()
            .filter(|outcome| self.reason.is_none() || outcome.reason() == own);
        let interval = 1_000_000_000 * shares / u64::from(self.rate.max(1));
        EventGate {
            until: 0,
            interval,
            burst: BURST.as_nanos() as u64,
            outcomes: wanted.fold(0, |bits, outcome| bits | 1 << outcome as u32),
            port: self.port.unwrap_or(0).into(),
        }
    }

    /// The kernel's filter goes by outcome and port; a reason is given to those alone that asked.
    fn passes(&self, event: &Event) -> bool {
        self.reason.is_none() || event.reason() == self.reason
    }
}

/// The name on the command line of a reason, of a policy's action or of its cause: `ReasonBadCookie` is
/// `bad-cookie`.
pub fn slug(counter: Counter) -> String {
    let name = counter.name();
    let prefixes = ["Reason", "Policy", "DryRun"].iter();
    let mut rest = prefixes.filter_map(|prefix| name.strip_prefix(prefix));
    let mut slug = String::new();
    for letter in rest.next().unwrap_or(name).chars() {
        if letter.is_uppercase() && !slug.is_empty() {
            slug.push('-');
        }
        slug.push(letter.to_ascii_lowercase());
    }
    slug
}

/// Events that were not told.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// They were over the rate.
    pub over_rate: u64,
    /// The ring had no room.
    pub ring_full: u64,
}

impl Lost {
    /// All of them.
    pub const fn total(self) -> u64 {
        self.over_rate + self.ring_full
    }

    /// What was lost after `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            over_rate: self.over_rate.wrapping_sub(before.over_rate),
            ring_full: self.ring_full.wrapping_sub(before.ring_full),
        }
    }

    fn read(map: &Map) -> Result<Self, DatapathError> {
        let map: PerCpuArray<_, EventBudget> =
            map.try_into().map_err(DatapathError::map(EVENT_BUDGET))?;
        let cpus = map.get(&0, 0).map_err(DatapathError::map(EVENT_BUDGET))?;
        Ok(Self {
            over_rate: cpus.iter().map(|cpu| cpu.over_rate).sum(),
            ring_full: cpus.iter().map(|cpu| cpu.ring_full).sum(),
        })
    }
}

impl std::ops::AddAssign for Lost {
    fn add_assign(&mut self, more: Self) {
        self.over_rate += more.over_rate;
        self.ring_full += more.ring_full;
    }
}

/// The stream of one data path. It tells nothing before the first [`EventStream::listen`], and nothing
/// any more after it is dropped; where it is neither dropped nor heard of, after three seconds.
pub struct EventStream {
    ring: RingBuf<MapData>,
    gate: Array<MapData, EventGate>,
    budget: Map,
    filter: EventFilter,
    wanted: EventGate,
    before: Lost,
    lock: Option<Lock>,
}

impl EventStream {
    /// Opens it; `interfaces` share the rate.
    pub(super) fn new(
        [ring, gate, budget]: [Map; 3],
        filter: EventFilter,
        interfaces: usize,
        lock: Option<Lock>,
    ) -> Result<Self, DatapathError> {
        let cpus = aya::util::online_cpus().map_or(1, |cpus| cpus.len());
        let mut stream = Self {
            ring: ring.try_into().map_err(DatapathError::map(EVENTS))?,
            gate: gate.try_into().map_err(DatapathError::map(EVENT_GATE))?,
            before: Lost::read(&budget)?,
            budget,
            filter,
            wanted: filter.gate((cpus * interfaces) as u64),
            lock,
        };
        // What an earlier reader left.
        while stream.ring.next().is_some() {}
        Ok(stream)
    }

    /// Listens for three seconds from now on.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Map`] where the kernel refuses it.
    pub fn listen(&mut self) -> Result<(), DatapathError> {
        let until = monotonic() + PATIENCE;
        self.set_gate(EventGate {
            until: until.as_nanos() as u64,
            ..self.wanted
        })
    }

    fn set_gate(&mut self, gate: EventGate) -> Result<(), DatapathError> {
        self.gate
            .set(0, gate, 0)
            .map_err(DatapathError::map(EVENT_GATE))
    }

    /// Its interface was detached: nothing more will come.
    pub fn is_over(&self) -> bool {
        self.lock.as_ref().is_some_and(Lock::is_gone)
    }

    /// The next event, if there is one.
    pub fn next_event(&mut self) -> Option<Event> {
        while let Some(item) = self.ring.next() {
            if let Some(event) = Event::from_bytes(&item)
                && self.filter.passes(&event)
            {
                return Some(event);
            }
        }
        None
    }

    /// What was lost since it was opened.
    ///
    /// # Errors
    ///
    /// [`DatapathError::Map`] where the map cannot be read.
    pub fn lost(&self) -> Result<Lost, DatapathError> {
        Ok(Lost::read(&self.budget)?.since(self.before))
    }
}

impl Drop for EventStream {
    fn drop(&mut self) {
        // Where this fails, the deadline does it.
        let _ = self.set_gate(EventGate::default());
    }
}

impl Namespace {
    /// The streams of all attached interfaces. Each has one reader at a time.
    ///
    /// # Errors
    ///
    /// [`NamespaceError::NothingAttached`], [`NamespaceError::EventsTaken`] where another process reads
    /// them, or where a map cannot be opened.
    pub fn events(&self, filter: EventFilter) -> Result<Vec<EventStream>, NamespaceError> {
        let interfaces = self.pins().interfaces()?;
        if interfaces.is_empty() {
            return Err(NamespaceError::NothingAttached);
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

    /// Events that were lost on all attached interfaces, whoever listened.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub fn events_lost(&self) -> Result<Lost, DatapathError> {
        let mut lost = Lost::default();
        for pins in self.pins().interfaces()? {
            lost += self.events_lost_of(pins.index)?;
        }
        Ok(lost)
    }

    /// Events that were lost on one interface.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the map cannot be read.
    pub fn events_lost_of(&self, index: u32) -> Result<Lost, DatapathError> {
        let pins = self.pins().interface(index);
        Lost::read(&map_from_pin(&pins.map(EVENT_BUDGET), EVENT_BUDGET)?)
    }
}
