//! Sources on whose path Fast Open does not work: what their handshakes show, and whether to withhold cookies from them.
//!
//! A middlebox that drops SYNs with data costs a client with a cookie a timeout for each connection, and all that the server
//! sees is an ordinary SYN, a second late. So a source that was given cookies and then opens connections without one, again
//! and again, is given none for a while. The same holds where SYNs with a good cookie arrive, and the connection never
//! opens.
//!
//! Only handshakes that were completed teach ([`SourceMemory::completed`]), and SYNs with a valid cookie
//! ([`SourceMemory::awaits`]): a spoofed source has neither.

use super::class::Class;
use crate::{
    atomic::AtomicWord, classify::Outcome, numbered::numbered, policy::Action,
    wire::addresses::Addresses, wire::flow::flow_tag,
};

numbered! {
    /// The evidence of a SYN about its source, as the kernel got the SYN.
    pub enum Sent: u8 else Nothing {
        /// Nothing of interest: a program changed it, or the listener decided.
        Nothing = "nothing",
        /// No option, so no cookie.
        Plain = "plain",
        /// An option for which the kernel issues a cookie.
        Asked = "asked",
        /// A valid cookie.
        Cookie = "cookie",
    }
}

impl Sent {
    /// Of a SYN with an option or data, with this outcome, on which a policy acted so; `None` where the kernel knows the
    /// connection, or never sees the SYN.
    #[inline(always)]
    pub const fn of(outcome: Outcome, action: Action) -> Option<Self> {
        Some(match (outcome, action) {
            (Outcome::Retransmission | Outcome::NoListener, _) | (_, Action::Drop) => return None,
            (_, Action::Fallback | Action::Reissue) => Self::Nothing,
            (Outcome::NoOption, _) => Self::Plain,
            (Outcome::Request | Outcome::BadCookie | Outcome::BadLength, _) => Self::Asked,
            (Outcome::Primary | Outcome::Backup, _) => Self::Cookie,
            _ => Self::Nothing,
        })
    }
}

/// Notes in [`crate::abi::SYN_NOTES`]. A SYN that loses its entry to another teaches nothing.
pub const NOTES: usize = 1 << 14;
/// The entry behind the notes: a random word that decides about their places.
pub const NOTES_KEY: u32 = NOTES as u32;

/// A note about one SYN, which waits for the end of the handshake: its flow, the lower bits of its sequence number, what it
/// showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Note {
    /// The entry in the map.
    pub index: u32,
    /// The note's word, with [`Sent::Nothing`].
    word: u64,
}

impl Note {
    const SENT: u64 = 3;

    /// Of the SYN with these addresses and ports, those of [`crate::wire::syn::Syn`], and this sequence number.
    #[inline(always)]
    pub const fn of(addresses: &Addresses, ports: u32, sequence: u32, key: u64) -> Self {
        const MIX: u64 = 0xff51_afd7_ed55_8ccd;
        let tag = flow_tag(addresses, ports) ^ key;
        // Once more, so that the key changes which flows share an entry.
        let tag = (tag ^ tag >> 32).wrapping_mul(MIX);
        Self {
            index: (tag >> 40) as u32 % NOTES as u32,
            word: tag << u32::BITS | (sequence << 2) as u64,
        }
    }

    /// The word in the map, where `before` is. A SYN that comes again as an ordinary one, as a client sends it after a
    /// timeout, leaves it as it was.
    #[inline(always)]
    pub const fn noting(self, sent: Sent, before: u64) -> u64 {
        if matches!(sent, Sent::Plain) && before & !Self::SENT == self.word {
            before
        } else {
            self.word | sent as u64
        }
    }

    /// Returns the evidence of the SYN, if `word` is its note.
    #[inline(always)]
    pub const fn sent(self, word: u64) -> Option<Sent> {
        if word & !Self::SENT == self.word {
            Some(Sent::from_number((word & Self::SENT) as u8))
        } else {
            None
        }
    }

    /// The word of a note that has taught: nothing more is learned of its connection.
    #[inline(always)]
    pub const fn spent(self) -> u64 {
        self.word | Sent::Nothing as u64
    }
}

/// The memory of a source: a value of the map [`crate::abi::SOURCE_MEMORY`], as the program changes
/// it.
#[repr(C)]
#[derive(Default)]
pub struct SourceMemory {
    /// Until when cookies are withheld; 0 for not. See [`SourceState`].
    until: AtomicWord,
    worked: AtomicWord,
    given: AtomicWord,
    plain: AtomicWord,
    waiting: AtomicWord,
    waiting_since: AtomicWord,
    withheld: AtomicWord,
}

/// The same, read at one moment. Times are nanoseconds of `CLOCK_MONOTONIC`, 0 for never.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct SourceState {
    /// Until when cookies are withheld. The lowest bit is 1 where SYNs with a cookie came and opened no connection.
    pub until: u64,
    /// The last connection that was opened with a valid cookie.
    pub worked: u64,
    /// Connections since then whose SYN-ACK brought a cookie.
    pub given: u64,
    /// Connections since then that were opened without a cookie.
    pub plain: u64,
    /// SYNs with a valid cookie since then that opened no connection.
    pub waiting: u64,
    /// The time at which the first of these came.
    pub waiting_since: u64,
    /// SYNs from which a cookie was withheld.
    pub withheld: u64,
}

// SAFETY: `repr(C)` and u64 throughout: no padding, and any bytes are a state.
#[cfg(feature = "user")]
unsafe impl aya::Pod for SourceState {}

impl SourceState {
    /// The source's SYNs with a cookie come, and open no connection. Else none come.
    pub const fn never_opens(&self) -> bool {
        self.until & SourceMemory::NEVER_OPENS != 0
    }

    /// Cookies are withheld at `now`.
    pub const fn is_withheld(&self, now: u64) -> bool {
        self.until > now
    }
}

impl SourceMemory {
    /// Connections without a cookie, by a source that was given one, after which cookies are withheld.
    pub const PLAIN: u64 = 8;
    /// SYNs with a valid cookie that opened no connection, after which cookies are withheld.
    pub const WAITING: u64 = 8;
    /// Nanoseconds that the first of these has had to do so.
    pub const PATIENCE: u64 = 10_000_000_000;
    /// Nanoseconds for which a source at which cookies worked is given more, whatever others behind its address do.
    pub const TRUST: u64 = 86_400_000_000_000;
    /// One in so many SYNs gets its cookie nevertheless, to notice when the path was mended.
    pub const TRIAL: u64 = 32;
    const NEVER_OPENS: u64 = 1;

    /// Learns from a handshake that was completed at `now`, and began with a SYN that showed `sent`; `None` where its note was
    /// lost. Cookies are withheld for `time` ns if it is the one too many.
    #[inline(always)]
    pub fn completed(&self, sent: Option<Sent>, now: u64, time: u64) {
        let until = self.until.load();
        if until != 0 && until <= now {
            self.forget();
        }
        let Some(sent) = sent else {
            // It may have been one of those that wait.
            return self.waiting.store(0);
        };
        match sent {
            Sent::Nothing => return,
            Sent::Cookie => {
                self.forget();
                self.worked.store(now);
                return;
            }
            Sent::Asked => _ = self.given.fetch_add(1),
            Sent::Plain => {
                if self.given.load() != 0 && self.plain.fetch_add(1) + 1 >= Self::PLAIN {
                    let worked = self.worked.load();
                    if worked == 0 || now.saturating_sub(worked) >= Self::TRUST {
                        self.withhold(now.saturating_add(time) & !Self::NEVER_OPENS);
                    }
                }
            }
        }
        if self.waiting.load() >= Self::WAITING
            && now.saturating_sub(self.waiting_since.load()) >= Self::PATIENCE
        {
            self.withhold(now.saturating_add(time) | Self::NEVER_OPENS);
        }
    }

    /// A SYN with a valid cookie goes to the kernel at `now`.
    #[inline(always)]
    pub fn awaits(&self, now: u64) {
        if self.waiting.fetch_add(1) == 0 {
            self.waiting_since.store(now);
        }
    }

    /// `true` if a cookie is withheld from a SYN of this class that comes at `now`. A cookie that arrives where none did is let
    /// through: it shows that the path was mended.
    #[inline(always)]
    pub fn withholds(&self, class: Class, now: u64) -> bool {
        let until = self.until.load();
        let concerned = match class {
            Class::Request => true,
            Class::Valid | Class::Bad => until & Self::NEVER_OPENS != 0,
            Class::Data => false,
        };
        until > now && concerned && self.withheld.fetch_add(1) % Self::TRIAL != Self::TRIAL - 1
    }

    /// Each sentence stands until its end, or until a cookie works.
    #[inline(always)]
    fn withhold(&self, until: u64) {
        if self.until.load() == 0 {
            self.until.store(until);
        }
    }

    #[inline(always)]
    fn forget(&self) {
        self.given.store(0);
        self.plain.store(0);
        self.waiting.store(0);
        self.until.store(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const DAY: u64 = SourceMemory::TRUST;

    fn learn(memory: &SourceMemory, sent: Sent, times: u64, now: u64) {
        for _ in 0..times {
            memory.completed(Some(sent), now, DAY);
        }
    }

    #[test]
    fn the_two_views_are_of_one_layout() {
        assert_eq!(size_of::<SourceMemory>(), size_of::<SourceState>());
        assert_eq!(size_of::<SourceState>(), 56);
    }

    #[test]
    fn a_cookie_that_is_given_and_never_comes_back_is_wasted() {
        let memory = SourceMemory::default();
        learn(&memory, Sent::Plain, 100, SECOND);
        assert!(!memory.withholds(Class::Request, SECOND), "none was given");
        learn(&memory, Sent::Asked, 1, SECOND);
        learn(&memory, Sent::Plain, SourceMemory::PLAIN - 1, SECOND);
        assert!(!memory.withholds(Class::Request, SECOND));
        learn(&memory, Sent::Plain, 1, SECOND);
        assert!(memory.withholds(Class::Request, SECOND));
        for class in [Class::Valid, Class::Bad] {
            assert!(
                !memory.withholds(class, SECOND),
                "it shows that cookies come"
            );
        }
        assert!(!memory.withholds(Class::Data, SECOND));
        assert!(
            !memory.withholds(Class::Request, SECOND + DAY),
            "its time is over"
        );
    }

    #[test]
    fn after_its_time_a_source_begins_anew() {
        let memory = SourceMemory::default();
        learn(&memory, Sent::Asked, 1, SECOND);
        learn(&memory, Sent::Plain, SourceMemory::PLAIN, SECOND);
        let later = 2 * SECOND + DAY;
        learn(&memory, Sent::Plain, 100, later);
        assert!(!memory.withholds(Class::Request, later), "no cookie since");
        learn(&memory, Sent::Asked, 1, later);
        learn(&memory, Sent::Plain, SourceMemory::PLAIN, later);
        assert!(memory.withholds(Class::Request, later));
    }

    #[test]
    fn one_valid_cookie_is_enough_to_trust_a_source() {
        let memory = SourceMemory::default();
        learn(&memory, Sent::Asked, 1, SECOND);
        learn(&memory, Sent::Plain, SourceMemory::PLAIN, SECOND);
        learn(&memory, Sent::Cookie, 1, SECOND);
        assert!(!memory.withholds(Class::Request, SECOND));
        // Others behind the same address do not speak Fast Open.
        learn(&memory, Sent::Asked, 1, 2 * SECOND);
        learn(&memory, Sent::Plain, 1000, DAY);
        assert!(!memory.withholds(Class::Request, DAY));
        learn(&memory, Sent::Plain, 1, SECOND + DAY);
        assert!(memory.withholds(Class::Request, SECOND + DAY));
    }

    #[test]
    fn cookies_that_open_nothing_while_other_handshakes_do() {
        for (syns, patience, expected) in [
            (SourceMemory::WAITING, SourceMemory::PATIENCE, true),
            (SourceMemory::WAITING - 1, SourceMemory::PATIENCE, false),
            // A burst of a proxy's, not answered yet.
            (1000, SourceMemory::PATIENCE - 1, false),
        ] {
            let memory = SourceMemory::default();
            learn(&memory, Sent::Cookie, 1, SECOND);
            (0..syns).for_each(|_| memory.awaits(SECOND));
            let now = SECOND + patience;
            assert!(!memory.withholds(Class::Valid, now), "nothing else opened");
            learn(&memory, Sent::Plain, 1, now);
            assert_eq!(memory.withholds(Class::Valid, now), expected);
            assert_eq!(memory.withholds(Class::Request, now), expected);
            assert_eq!(memory.withholds(Class::Bad, now), expected);
            learn(&memory, Sent::Cookie, 1, now);
            assert!(!memory.withholds(Class::Valid, now));
        }
    }

    #[test]
    fn one_in_32_is_let_through() {
        let memory = SourceMemory::default();
        learn(&memory, Sent::Asked, 1, SECOND);
        learn(&memory, Sent::Plain, SourceMemory::PLAIN, SECOND);
        let let_through = (0..320).filter(|_| !memory.withholds(Class::Request, SECOND));
        assert_eq!(let_through.count(), 10);
    }

    #[test]
    fn a_handshake_whose_note_was_lost_may_be_one_that_is_waited_for() {
        let memory = SourceMemory::default();
        (0..2 * SourceMemory::WAITING).for_each(|_| memory.awaits(SECOND));
        let now = SECOND + SourceMemory::PATIENCE;
        learn(&memory, Sent::Nothing, 1, now);
        memory.completed(None, now, DAY);
        learn(&memory, Sent::Plain, 1, now);
        assert!(!memory.withholds(Class::Valid, now));
    }

    #[test]
    fn a_note_is_of_one_flow_and_one_sequence_number() {
        let addresses = Addresses::v4([192, 0, 2, 1], [198, 51, 100, 1]);
        let of = |ports, sequence| Note::of(&addresses, ports, sequence, 7);
        let note = of(0x5000_1234, 77);
        let asked = note.noting(Sent::Asked, 0);
        assert_eq!(note.sent(asked), Some(Sent::Asked));
        // The client's retransmission, and its next connection from the same port.
        assert_eq!(note.noting(Sent::Plain, asked), asked);
        let next = of(0x5000_1234, 78);
        let plain = next.noting(Sent::Plain, asked);
        assert_eq!(next.sent(plain), Some(Sent::Plain));
        assert_eq!(next.sent(next.spent()), Some(Sent::Nothing));
        for other in [next, of(0x5000_1235, 77)] {
            assert_eq!(other.sent(asked), None);
        }
        assert_eq!(note.sent(0), None);
    }

    #[test]
    fn the_key_decides_which_flows_share_an_entry() {
        let at = |port: u32, key| {
            let addresses = Addresses::v4([192, 0, 2, 1], [198, 51, 100, 1]);
            Note::of(&addresses, port << 16 | 0x1234, 0, key).index
        };
        let shared = (1..20_000).filter(|port| at(*port, 1) == at(0, 1));
        let shared: std::vec::Vec<_> = shared.collect();
        let still = shared.iter().filter(|port| at(**port, 2) == at(0, 2));
        assert!(still.count() <= shared.len() / 2, "{shared:?}");
    }

    #[test]
    fn a_syn_that_was_changed_teaches_nothing() {
        for (outcome, action, expected) in [
            (Outcome::Request, Action::Pass, Some(Sent::Asked)),
            (Outcome::Request, Action::Fallback, Some(Sent::Nothing)),
            (Outcome::BadCookie, Action::Pass, Some(Sent::Asked)),
            (Outcome::Primary, Action::Pass, Some(Sent::Cookie)),
            (Outcome::Backup, Action::Once, Some(Sent::Cookie)),
            (Outcome::Backup, Action::Reissue, Some(Sent::Nothing)),
            (Outcome::Primary, Action::Drop, None),
            (Outcome::Retransmission, Action::Pass, None),
            (Outcome::QueueFull, Action::Pass, Some(Sent::Nothing)),
            (Outcome::WithoutCookie, Action::Pass, Some(Sent::Nothing)),
            (Outcome::NoOption, Action::Pass, Some(Sent::Plain)),
        ] {
            assert_eq!(
                Sent::of(outcome, action),
                expected,
                "{outcome:?} {action:?}"
            );
        }
    }
}
