//! Events of single SYNs: their layout, the reader's filter, and the rate limit.

use crate::{
    classify::Outcome, context::SynContext, counters::Counter, fastopen::own::OwnCookie,
    guard::GuardAction, policy::Action, wire::addresses::Address,
};

/// The event of one SYN: an entry of the ring buffer `EVENTS`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Event {
    /// Nanoseconds since boot, without suspend: `CLOCK_MONOTONIC`.
    pub time: u64,
    /// Source address.
    pub source: Address,
    /// Destination address.
    pub destination: Address,
    /// Source then destination port as on the wire, in a little-endian word.
    pub ports: u32,
    /// Bytes of data.
    pub data_len: u32,
    /// Number of the [`Outcome`] of the SYN as it came.
    outcome: u8,
    /// 1 where the SYN asked for Fast Open, else 0.
    asks: u8,
    /// Number of the policy's [`Action`], and [`DRY_RUN`].
    action: u8,
    /// Index of the policy's cause in [`Counter::POLICY`].
    cause: u8,
    /// Number of the [`GuardAction`], [`COOKIE_ISSUED`], and from [`OWN_COOKIE`] on the number of the [`OwnCookie`]. A whole word: LLVM would call `memset` for odd bytes, which
    /// libbpf's loader refuses.
    guard: u32,
}

/// Bit of [`Event::action`]: the action was counted, not taken.
const DRY_RUN: u8 = 0x80;
/// Bit of [`Event::guard`]: the challenge carried a Fast Open cookie.
const COOKIE_ISSUED: u32 = 0x80;
/// First bit of the [`OwnCookie`] in [`Event::guard`].
const OWN_COOKIE: u32 = 8;

// SAFETY: `repr(C)`, u64 before u32 before four u8 and a u32: no padding, and any bytes are an event.
#[cfg(feature = "user")]
unsafe impl aya::Pod for Event {}

impl Event {
    /// The event of the SYN of `context`, at `time` in nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub const fn new(time: u64, context: &SynContext) -> Self {
        let SynContext {
            syn,
            guard,
            verdict,
            ..
        } = context;
        let issued = if guard.cookie_issued() {
            COOKIE_ISSUED
        } else {
            0
        };
        Self {
            time,
            source: Address::source(&syn.addresses),
            destination: Address::destination(&syn.addresses),
            ports: syn.ports,
            data_len: syn.data_len,
            outcome: context.outcome() as u8,
            asks: syn.asks_for_fast_open() as u8,
            action: verdict.planned() as u8 | if verdict.is_dry_run() { DRY_RUN } else { 0 },
            cause: verdict.cause() as u8,
            guard: guard.action() as u32 | issued | (context.own_cookie as u32) << OWN_COOKIE,
        }
    }

    /// From the bytes of the ring buffer; `None` where another version wrote them.
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
        let (_, guard) = halves(outcome_asks);
        let known = usize::from(outcome) < Outcome::ALL.len()
            && usize::from(action & !DRY_RUN) < Action::ALL.len()
            && usize::from(cause) < Counter::POLICY.len()
            && ((guard & 0xff & !COOKIE_ISSUED) as usize) < GuardAction::ALL.len()
            && ((guard >> OWN_COOKIE) as usize) < OwnCookie::ALL.len();
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
            guard,
        })
    }

    /// The policy's action, and whether it was a dry run; `None` where the policy passed the SYN.
    pub fn action(&self) -> Option<(Action, bool)> {
        match Action::from_number(self.action & !DRY_RUN) {
            Action::Pass => None,
            action => Some((action, self.action & DRY_RUN != 0)),
        }
    }

    /// The cause of the policy's action.
    pub fn cause(&self) -> Option<Counter> {
        let cause = Counter::POLICY.get(usize::from(self.cause))?;
        (self.action != 0).then_some(*cause)
    }

    /// The guard's action.
    pub fn guard(&self) -> GuardAction {
        GuardAction::from_number(self.guard & 0xff & !COOKIE_ISSUED)
    }

    /// The own cookie of the SYN; `None` where it had none.
    pub fn own_cookie(&self) -> Option<OwnCookie> {
        let own = OwnCookie::from_number(self.guard >> OWN_COOKIE);
        own.counter().map(|_| own)
    }

    /// The guard's challenge carried a Fast Open cookie.
    pub const fn cookie_issued(&self) -> bool {
        self.guard & COOKIE_ISSUED != 0
    }

    /// The outcome of the SYN as it came.
    pub fn outcome(&self) -> Outcome {
        Outcome::from_number(self.outcome)
    }

    /// The reason for which the SYN did not get Fast Open; `None` where it did, or did not ask.
    pub fn reason(&self) -> Option<Counter> {
        let acted = matches!(self.action(), Some((_, false)));
        let policy = acted.then_some(Counter::ReasonPolicy);
        // A request that is answered with a cookie got what it asked for.
        let given = self.cookie_issued() && self.outcome() == Outcome::Request;
        let guard = (self.guard().blocks() && !given).then_some(Counter::ReasonGuard);
        self.outcome()
            .reason()
            .or(policy)
            .or(guard)
            .filter(|_| self.asks != 0)
    }

    /// The source port.
    pub const fn source_port(&self) -> u16 {
        (self.ports as u16).swap_bytes()
    }

    /// The destination port.
    pub const fn destination_port(&self) -> u16 {
        ((self.ports >> 16) as u16).swap_bytes()
    }
}

/// The filter and rate of the reader of events: the value of the map `EVENT_GATE`, read at every SYN with Fast Open or
/// data.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventGate {
    /// Time until which events are wanted, as [`Event::time`]; 0 where there is no reader. A reader extends it while it
    /// lives, so that one that was killed costs nothing for long.
    pub until: u64,
    /// Nanoseconds from one event to the next on one CPU, on average.
    pub interval: u64,
    /// Nanoseconds by which a CPU may run ahead of that.
    pub burst: u64,
    /// Wanted outcomes: the bit of each [`Outcome`]'s number; and from [`Self::OWN_COOKIES`] on, wanted own cookies: the bit of each
    /// [`OwnCookie`]'s number, or none of them where all SYNs are wanted.
    pub outcomes: u64,
    /// Wanted destination port; 0 for all.
    pub port: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a gate.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EventGate {}

// Each kind of bits has room.
const _: () = assert!(
    Outcome::ALL.len() <= EventGate::OWN_COOKIES as usize
        && OwnCookie::ALL.len() <= (u64::BITS - EventGate::OWN_COOKIES) as usize
);

impl EventGate {
    /// First bit of the own cookies in [`Self::outcomes`].
    pub const OWN_COOKIES: u32 = 32;

    /// `true` if the event of this SYN is wanted.
    #[inline(always)]
    pub const fn wants(&self, context: &SynContext) -> bool {
        let own = self.outcomes >> Self::OWN_COOKIES;
        self.outcomes >> (context.outcome() as u32) & 1 != 0
            && (own == 0 || own >> (context.own_cookie as u32) & 1 != 0)
            && (self.port == 0 || self.port == context.syn.destination_port() as u64)
    }
}

/// The events that one CPU may still write, and those that it lost: a value of the map `EVENT_BUDGET`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct EventBudget {
    /// Time of the next event, by [`EventGate::interval`].
    next: u64,
    /// Events beyond the rate.
    pub over_rate: u64,
    /// Events for which the ring had no room.
    pub ring_full: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a budget.
#[cfg(feature = "user")]
unsafe impl aya::Pod for EventBudget {}

impl EventBudget {
    /// `true` if an event may be written at `now`; else counts it as lost.
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
    use crate::{
        classify::{Classification, socket::Socket},
        guard::Decision,
        switches::Switches,
        wire::{
            addresses::Addresses,
            options::fast_open::FastOpen,
            syn::{Layout, Syn},
        },
    };

    const SECOND: u64 = 1_000_000_000;

    /// A SYN to port 443 with 7 bytes of data.
    fn context(fast_open: FastOpen) -> SynContext {
        SynContext::new(
            Syn {
                addresses: Addresses::v4([192, 0, 2, 1], [198, 51, 100, 2]),
                sequence: 1,
                ports: u32::from_le_bytes([0x12, 0x34, 0x01, 0xbb]),
                data_len: 7,
                options: fast_open.into(),
                layout: Layout::NONE,
            },
            Switches::OFF,
        )
    }

    fn classified(fast_open: FastOpen, socket: &Socket) -> SynContext {
        let mut context = context(fast_open);
        context.classification = Classification::of(&context.syn, socket, || None);
        context
    }

    #[test]
    fn a_syn_that_asked_has_a_reason() {
        let event = Event::new(1, &classified(FastOpen::Request, &Socket::None));
        assert_eq!(event.outcome(), Outcome::NoListener);
        assert_eq!(event.reason(), Some(Counter::ReasonNoListener));
        assert_eq!(
            (event.source_port(), event.destination_port()),
            (0x1234, 443)
        );
        let event = Event::new(1, &classified(FastOpen::Absent, &Socket::None));
        assert_eq!((event.outcome(), event.reason()), (Outcome::NoOption, None));
    }

    #[test]
    fn an_event_has_the_guards_action() {
        let reason = |fast_open, action, issued| {
            let mut context = classified(fast_open, &Socket::Unknown);
            context.guard = Decision::new(action, false).with_cookie(issued);
            let event = Event::new(1, &context);
            assert_eq!((event.guard(), event.cookie_issued()), (action, issued));
            assert_eq!(event.own_cookie(), None);
            context.own_cookie = OwnCookie::Old;
            let own = Event::new(1, &context);
            assert_eq!((own.guard(), own.cookie_issued()), (action, issued));
            assert_eq!(own.own_cookie(), Some(OwnCookie::Old));
            event.reason()
        };
        let guard = Some(Counter::ReasonGuard);
        let challenged = GuardAction::Challenged;
        assert_eq!(reason(FastOpen::Request, GuardAction::Proven, false), None);
        assert_eq!(reason(FastOpen::Request, challenged, false), guard);
        assert_eq!(reason(FastOpen::Request, challenged, true), None);
        assert_eq!(reason(FastOpen::Request, GuardAction::Capped, false), None);
        let bad = Some(Counter::ReasonBadLength);
        assert_eq!(reason(FastOpen::BadLength, challenged, true), bad);
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
    fn the_gate_filters_by_port_outcome_and_own_cookie() {
        let mut gate = EventGate {
            outcomes: 1 << Outcome::Request as u32,
            ..EventGate::default()
        };
        let request = classified(FastOpen::Request, &Socket::Unknown);
        assert!(gate.wants(&request));
        assert!(!gate.wants(&classified(FastOpen::BadLength, &Socket::Unknown)));
        gate.port = 443;
        assert!(gate.wants(&request));
        gate.port = 80;
        assert!(!gate.wants(&request));
        gate.port = 0;
        gate.outcomes |= 1 << (EventGate::OWN_COOKIES + OwnCookie::Old as u32);
        assert!(!gate.wants(&request));
        let mut old = request;
        old.own_cookie = OwnCookie::Old;
        assert!(gate.wants(&old));
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
