//! Single SYNs, told to whoever listens: what is told, when, and how often.

use crate::{
    classify::Outcome,
    counters::Counter,
    guard::Reaction,
    policy::{Action, Verdict},
    sources::Address,
    syn::Syn,
    wire::options::FastOpen,
};

/// What became of one SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds since boot, without suspend: `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Where it came from.
    pub source: Address,
    /// Where it went.
    pub destination: Address,
    /// Source then destination port as on the wire, in a little-endian word.
    pub ports: u32,
    /// Bytes of data.
    pub data_len: u32,
    /// [`Outcome`] as its place in [`Outcome::ALL`]: of the SYN as it came.
    outcome: u8,
    /// 1 where the SYN has a Fast Open option, or a malformed one, else 0.
    asks: u8,
    /// The policy's [`Action`] as its place in [`Action::ALL`], and [`DRY_RUN`].
    action: u8,
    /// Its cause, as its place in [`Counter::POLICY`].
    cause: u8,
    /// The guard's [`Reaction`] as its place in [`Reaction::ALL`], and [`ISSUED`]. A whole word: LLVM would make
    /// a call of `memset` of odd bytes, which libbpf's loader does not take.
    reaction: u32,
}

/// The bit of [`Event::action`] that says that nothing was done.
const DRY_RUN: u8 = 0x80;
/// The bit of [`Event::reaction`] that says that a Fast Open cookie was handed out.
const ISSUED: u32 = 0x80;

// SAFETY: `repr(C)`, u64 before u32 before four u8 and a u32: no padding, and any bytes are an event.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Event {}

impl Event {
    /// Tells of `syn`, which came to `outcome` at `time`.
    #[inline(always)]
    pub const fn new(time: u64, syn: &Syn, outcome: Outcome, verdict: Verdict) -> Self {
        let asks = syn.options.malformed || !matches!(syn.options.fast_open, FastOpen::Absent);
        Self {
            time,
            source: Address::source(&syn.addresses),
            destination: Address::destination(&syn.addresses),
            ports: syn.ports,
            data_len: syn.data_len,
            outcome: outcome as u8,
            asks: asks as u8,
            action: verdict.planned() as u8 | if verdict.is_dry_run() { DRY_RUN } else { 0 },
            cause: verdict.cause() as u8,
            reaction: Reaction::None as u32,
        }
    }

    /// The same of a SYN that the guard let pass or not; `issued` where its sender was handed a cookie.
    #[inline(always)]
    #[must_use]
    pub const fn guarded(self, reaction: Reaction, issued: bool) -> Self {
        let issued = if issued { ISSUED } else { 0 };
        Self {
            reaction: reaction as u32 | issued,
            ..self
        }
    }

    /// The event that was written as these bytes; `None` where another version wrote them.
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (words, rest) = bytes.as_chunks::<8>();
        let [time, s0, s1, d0, d1, ports_len, outcome_asks] = *words else {
            return None;
        };
        let word = u64::from_ne_bytes;
        let halves = |bytes: [u8; 8]| {
            let (halves, _) = bytes.as_chunks::<4>();
            (u32::from_ne_bytes(halves[0]), u32::from_ne_bytes(halves[1]))
        };
        let (ports, data_len) = halves(ports_len);
        let [outcome, asks, action, cause, ..] = outcome_asks;
        let (_, reaction) = halves(outcome_asks);
        let known = usize::from(outcome) < Outcome::ALL.len()
            && usize::from(action & !DRY_RUN) < Action::ALL.len()
            && usize::from(cause) < Counter::POLICY.len()
            && ((reaction & !ISSUED) as usize) < Reaction::ALL.len();
        (rest.is_empty() && known).then_some(Self {
            time: word(time),
            source: Address([word(s0), word(s1)]),
            destination: Address([word(d0), word(d1)]),
            ports,
            data_len,
            outcome,
            asks,
            action,
            cause,
            reaction,
        })
    }

    /// What the port's policy did, and whether it only would have; `None` where it let the SYN pass.
    pub fn action(&self) -> Option<(Action, bool)> {
        match Action::from_number(self.action & !DRY_RUN) {
            Action::Pass => None,
            action => Some((action, self.action & DRY_RUN != 0)),
        }
    }

    /// Why it did.
    pub fn cause(&self) -> Option<Counter> {
        let cause = Counter::POLICY.get(usize::from(self.cause))?;
        (self.action != 0).then_some(*cause)
    }

    /// What the guard did with it.
    pub fn reaction(&self) -> Reaction {
        Reaction::from_number(self.reaction & !ISSUED)
    }

    /// Whether the guard handed its sender a cookie.
    pub const fn issued(&self) -> bool {
        self.reaction & ISSUED != 0
    }

    /// What became of it.
    pub fn outcome(&self) -> Outcome {
        Outcome::ALL
            .get(self.outcome as usize)
            .copied()
            .unwrap_or(Outcome::NoOption)
    }

    /// Why it did not get the Fast Open that it asked for; `None` where it did, or did not ask.
    pub fn reason(&self) -> Option<Counter> {
        let acted = matches!(self.action(), Some((_, false)));
        let policy = acted.then_some(Counter::ReasonPolicy);
        // One that asked for a cookie and has one got what it asked for.
        let given = self.issued() && self.outcome() == Outcome::Request;
        let guard = (self.reaction().blocks() && !given).then_some(Counter::ReasonGuard);
        self.outcome()
            .reason()
            .or(policy)
            .or(guard)
            .filter(|_| self.asks != 0)
    }

    /// The port that it comes from.
    pub const fn source_port(&self) -> u16 {
        (self.ports as u16).swap_bytes()
    }

    /// The port that it asks for.
    pub const fn destination_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }
}

/// What a listener wants to be told. The program reads it at every SYN that has to do with Fast Open.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventGate {
    /// When it stops listening, in nanoseconds as [`Event::time`]; 0 where nobody listens. A listener
    /// puts it off while it lives, so that one that was killed costs nothing for long.
    pub until: u64,
    /// Nanoseconds from one event to the next on one CPU, on average.
    pub interval: u64,
    /// How far a CPU may run ahead of that, in nanoseconds.
    pub burst: u64,
    /// The outcomes that it wants: a bit for each, as it stands in [`Outcome::ALL`].
    pub outcomes: u64,
    /// The destination port that it wants; 0 for all.
    pub port: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a gate.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EventGate {}

impl EventGate {
    /// Whether it wants to hear of such a SYN.
    #[inline(always)]
    pub const fn wants(&self, syn: &Syn, outcome: Outcome) -> bool {
        self.outcomes >> (outcome as u32) & 1 != 0
            && (self.port == 0 || self.port == syn.destination_port() as u64)
    }
}

/// What one CPU may still tell, and what it did not.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventBudget {
    /// When the next event is due, by [`EventGate::interval`].
    next: u64,
    /// Events that were over the rate.
    pub over_rate: u64,
    /// Events for which the ring had no room.
    pub ring_full: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a budget.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EventBudget {}

impl EventBudget {
    /// Whether an event may be told at `now`. Counts it as lost where not.
    #[inline(always)]
    pub const fn take(&mut self, now: u64, gate: &EventGate) -> bool {
        let earliest = now.saturating_sub(gate.burst);
        let next = if self.next > earliest {
            self.next
        } else {
            earliest
        };
        if next > now {
            self.over_rate = self.over_rate.wrapping_add(1);
            return false;
        }
        self.next = next.saturating_add(gate.interval);
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{cookie::Addresses, syn::Layout, wire::options::Options};

    const SECOND: u64 = 1_000_000_000;

    fn syn() -> Syn {
        Syn {
            addresses: Addresses::v4([192, 0, 2, 1], [198, 51, 100, 2]),
            sequence: 1,
            ports: u32::from_le_bytes([0x12, 0x34, 0x01, 0xbb]),
            data_len: 7,
            options: Options {
                fast_open: FastOpen::Request,
                ..Options::NONE
            },
            layout: Layout::NONE,
        }
    }

    #[test]
    fn a_reason_is_told_to_those_who_asked() {
        let event = Event::new(1, &syn(), Outcome::QueueFull, Verdict::NONE);
        assert_eq!(event.reason(), Some(Counter::ReasonQueueFull));
        assert_eq!(
            (event.source_port(), event.destination_port()),
            (0x1234, 443)
        );
        let plain = Syn {
            options: Options::NONE,
            ..syn()
        };
        let event = Event::new(1, &plain, Outcome::QueueFull, Verdict::NONE);
        assert_eq!(
            (event.outcome(), event.reason()),
            (Outcome::QueueFull, None)
        );
    }

    #[test]
    fn what_the_guard_did_is_told() {
        let of = |outcome, reaction, issued| {
            let event = Event::new(1, &syn(), outcome, Verdict::NONE).guarded(reaction, issued);
            assert_eq!((event.reaction(), event.issued()), (reaction, issued));
            event.reason()
        };
        let guard = Some(Counter::ReasonGuard);
        assert_eq!(of(Outcome::Primary, Reaction::Proven, false), None);
        assert_eq!(of(Outcome::Primary, Reaction::Challenged, false), guard);
        assert_eq!(of(Outcome::Request, Reaction::Challenged, true), None);
        assert_eq!(of(Outcome::Request, Reaction::Capped, false), guard);
        let bad = Some(Counter::ReasonBadCookie);
        assert_eq!(of(Outcome::BadCookie, Reaction::Challenged, true), bad);
    }

    #[test]
    fn bytes_of_another_version_are_no_event() {
        for len in [0, 48, 55, 57, 64] {
            assert_eq!(Event::from_bytes(&std::vec![0; len]), None);
        }
        assert!(Event::from_bytes(&[0; 56]).is_some());
        assert_eq!(Event::from_bytes(&[0xff; 56]), None);
    }

    #[test]
    fn the_gate_filters_by_port_and_outcome() {
        let mut gate = EventGate {
            outcomes: 1 << Outcome::Request as u32,
            ..EventGate::default()
        };
        assert!(gate.wants(&syn(), Outcome::Request));
        assert!(!gate.wants(&syn(), Outcome::Primary));
        gate.port = 443;
        assert!(gate.wants(&syn(), Outcome::Request));
        gate.port = 80;
        assert!(!gate.wants(&syn(), Outcome::Request));
    }

    /// However SYNs come, no second has more than the rate and one burst.
    #[test]
    fn the_rate_holds() {
        let gate = EventGate {
            interval: SECOND / 100,
            burst: SECOND / 10,
            ..EventGate::default()
        };
        let mut budget = EventBudget::default();
        let told = (0..3000).filter(|ms| budget.take(SECOND + ms * 1_000_000, &gate));
        assert_eq!(told.count(), 300 + 10);
        assert_eq!(budget.over_rate, 3000 - 310);
        // A long silence earns one burst, not more.
        let told = (0..1000).filter(|_| budget.take(100 * SECOND, &gate));
        assert_eq!(told.count(), 11);
    }
}
