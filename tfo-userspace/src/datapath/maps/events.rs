//! The event stream: one record per Fast Open SYN, from a ring buffer.

use std::time::Duration;

use aya::maps::{Array, Map, MapData, PerCpuArray, RingBuf};
use tfo_common::{
    abi::{
        EVENT_BUDGET, EVENT_GATE, EVENTS,
        events::{Event, EventBudget, EventGate},
    },
    classify::Outcome,
    counters::Counter,
    fastopen::own::OwnCookie,
};

use crate::{
    datapath::{error::DatapathError, pins::Lock},
    kernel::clock::monotonic,
};

/// Default limit, in events per second.
pub const DEFAULT_RATE: u32 = 10_000;

/// Time for which the program emits events after the last [`EventStream::listen`].
const PATIENCE: Duration = Duration::from_secs(3);

/// Burst of a CPU's share of the rate.
const BURST: Duration = Duration::from_millis(100);

/// The events that a reader wants.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EventFilter {
    /// SYNs to this port alone; `None` for all.
    pub port: Option<u16>,
    /// SYNs that did not get Fast Open for this reason alone; `None` for all SYNs.
    pub reason: Option<Counter>,
    /// SYNs with such an own cookie alone; `None` for all SYNs.
    pub own_cookie: Option<OwnCookie>,
    /// Limit over all CPUs and interfaces, in events per second.
    pub rate: u32,
}

impl Default for EventFilter {
    fn default() -> Self {
        Self {
            port: None,
            reason: None,
            own_cookie: None,
            rate: DEFAULT_RATE,
        }
    }
}

impl EventFilter {
    /// The program's filter. Each CPU of each interface gets one of `shares` equal shares of the rate.
    fn gate(&self, shares: u64) -> EventGate {
        // The policy and the guard give a reason to SYNs whose outcome has none.
        let theirs = [Counter::ReasonPolicy, Counter::ReasonGuard];
        let own = self.reason.filter(|it| !theirs.contains(it));
        let wanted = Outcome::ALL
            .into_iter()
            .filter(|outcome| self.reason.is_none() || outcome.reason() == own);
        let own_cookie = self
            .own_cookie
            .map_or(0, |own| 1 << (EventGate::OWN_COOKIES + own as u32));
        let interval = 1_000_000_000 * shares / u64::from(self.rate.max(1));
        EventGate {
            until: 0,
            interval,
            burst: BURST.as_nanos() as u64,
            outcomes: wanted.fold(own_cookie, |bits, outcome| bits | 1 << outcome as u32),
            port: self.port.unwrap_or(0).into(),
        }
    }

    /// The program filters by outcome, port and own cookie; the reason is checked here, and what a program of an earlier build
    /// does not filter by.
    fn passes(&self, event: &Event) -> bool {
        (self.reason.is_none() || event.reason() == self.reason)
            && (self.own_cookie.is_none() || event.own_cookie() == self.own_cookie)
    }
}

/// The command line's name of a counter of reasons, policy actions or causes: `ReasonBadCookie` is
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

/// Numbers of events that were dropped.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Lost {
    /// Over the rate limit.
    pub over_rate: u64,
    /// The ring buffer was full.
    pub ring_full: u64,
}

impl Lost {
    /// Over both causes.
    pub const fn total(self) -> u64 {
        self.over_rate + self.ring_full
    }

    /// Events dropped after `before`.
    #[must_use]
    pub const fn since(self, before: Self) -> Self {
        Self {
            over_rate: self.over_rate.wrapping_sub(before.over_rate),
            ring_full: self.ring_full.wrapping_sub(before.ring_full),
        }
    }

    /// Reads one interface's `EVENT_BUDGET` and sums over CPUs.
    pub(crate) fn read(map: &Map) -> Result<Self, DatapathError> {
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

/// The event stream of one interface. The program emits events from the first [`EventStream::listen`] until
/// three seconds after the last, or until this is dropped.
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
    /// Opens the stream of one of `interfaces`, which share the rate.
    pub(crate) fn new(
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
        // Events of an earlier reader.
        while stream.ring.next().is_some() {}
        Ok(stream)
    }

    /// Has the program emit events for three seconds from now on.
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

    /// The interface was detached: no more events will come.
    pub fn is_over(&self) -> bool {
        self.lock.as_ref().is_some_and(Lock::is_gone)
    }

    /// The next event in the ring buffer; `None` where it is empty.
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

    /// Events dropped since the stream was opened.
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
        // If this fails, the deadline closes the gate.
        let _ = self.set_gate(EventGate::default());
    }
}
