//! The kernel's truth table: what becomes of a SYN, and why.
//!
//! Source: Linux' `tcp_conn_request`, `tcp_try_fastopen` and `tcp_fastopen_cookie_gen_check`, in the
//! order in which they decide. Where the socket is not known, the packet and the keys decide alone.

use crate::{
    cookie::{Cookie, KeySet},
    counters::{Counter, Counters},
    judgement::Judgement,
    socket::{Listener, Socket},
    syn::Syn,
    wire::options::FastOpen,
};

/// What becomes of a SYN.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No Fast Open option: an ordinary SYN.
    NoOption,
    /// It asked for a cookie and is given one.
    Request,
    /// A cookie of the primary key: its data is taken.
    Primary,
    /// A cookie of a backup key: its data is taken, and the cookie replaced by one of the primary key.
    Backup,
    /// Its data is taken whatever its cookie: the host or the listener needs none.
    WithoutCookie,
    /// A Fast Open option, or the list that holds it, that the kernel passes over.
    Malformed,
    /// A cookie of no key that we have: stale, or of another host.
    BadCookie,
    /// A cookie of a length that is never issued.
    BadLength,
    /// The host lets no listener take Fast Open.
    Off,
    /// The listener does not take Fast Open.
    ListenerWithout,
    /// The listener's Fast Open queue is full.
    QueueFull,
    /// The kernel answers with a SYN cookie, which has no room for Fast Open.
    SynCookies,
    /// The listener's SYN queue is full: the kernel drops the SYN.
    SynQueueFull,
    /// The listener's accept queue is full: the kernel drops the SYN.
    AcceptQueueFull,
    /// Nothing listens.
    NoListener,
    /// The connection or its request exists already.
    Retransmission,
    /// A signature that the listener does not expect: the kernel drops the SYN.
    Signed,
}

impl Outcome {
    /// Every outcome, in the order of its discriminant.
    pub const ALL: [Self; 17] = [
        Self::NoOption,
        Self::Request,
        Self::Primary,
        Self::Backup,
        Self::WithoutCookie,
        Self::Malformed,
        Self::BadCookie,
        Self::BadLength,
        Self::Off,
        Self::ListenerWithout,
        Self::QueueFull,
        Self::SynCookies,
        Self::SynQueueFull,
        Self::AcceptQueueFull,
        Self::NoListener,
        Self::Retransmission,
        Self::Signed,
    ];

    /// The outcome that has this discriminant; the last one for greater numbers.
    #[inline(always)]
    pub(crate) const fn from_number(number: u8) -> Self {
        match number {
            0 => Self::NoOption,
            1 => Self::Request,
            2 => Self::Primary,
            3 => Self::Backup,
            4 => Self::WithoutCookie,
            5 => Self::Malformed,
            6 => Self::BadCookie,
            7 => Self::BadLength,
            8 => Self::Off,
            9 => Self::ListenerWithout,
            10 => Self::QueueFull,
            11 => Self::SynCookies,
            12 => Self::SynQueueFull,
            13 => Self::AcceptQueueFull,
            14 => Self::NoListener,
            15 => Self::Retransmission,
            _ => Self::Signed,
        }
    }

    /// The outcome in a few words, for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoOption => "no option",
            Self::Request => "request",
            Self::Primary => "primary cookie",
            Self::Backup => "backup cookie",
            Self::WithoutCookie => "without cookie",
            Self::Malformed => "malformed",
            Self::BadCookie => "bad cookie",
            Self::BadLength => "bad length",
            Self::Off => "off",
            Self::ListenerWithout => "listener without",
            Self::QueueFull => "queue full",
            Self::SynCookies => "SYN cookies",
            Self::SynQueueFull => "SYN queue full",
            Self::AcceptQueueFull => "accept queue full",
            Self::NoListener => "no listener",
            Self::Retransmission => "retransmission",
            Self::Signed => "signed",
        }
    }

    /// Why a SYN that asked for or carried Fast Open did not get it; `None` where it did.
    #[inline(always)]
    pub const fn reason(self) -> Option<Counter> {
        Some(match self {
            Self::NoOption | Self::Request | Self::Primary | Self::Backup | Self::WithoutCookie => {
                return None;
            }
            Self::Malformed => Counter::ReasonMalformed,
            Self::BadCookie => Counter::ReasonBadCookie,
            Self::BadLength => Counter::ReasonBadLength,
            Self::Off => Counter::ReasonOff,
            Self::ListenerWithout => Counter::ReasonListenerWithout,
            Self::QueueFull => Counter::ReasonQueueFull,
            Self::SynCookies => Counter::ReasonSynCookies,
            Self::SynQueueFull => Counter::ReasonSynQueueFull,
            Self::AcceptQueueFull => Counter::ReasonAcceptQueueFull,
            Self::NoListener => Counter::ReasonNoListener,
            Self::Retransmission => Counter::ReasonRetransmission,
            Self::Signed => Counter::ReasonSigned,
        })
    }

    /// Whether the socket that a SYN meets decides about it. It is looked up for such SYNs alone.
    #[inline(always)]
    pub const fn depends_on_socket(syn: &Syn) -> bool {
        !matches!(syn.options.fast_open, FastOpen::Absent) || syn.data_len > 0
    }

    /// What `syn` comes to, which meets `socket`: [`Judgement::of`] in one step.
    #[inline(always)]
    pub fn of<'a>(
        syn: &Syn,
        socket: &'a Socket,
        keys: impl FnOnce() -> Option<&'a KeySet>,
    ) -> Self {
        Judgement::of(syn, socket, keys).outcome(syn)
    }

    /// What a listener decides without a look at the cookie.
    #[inline(always)]
    pub(crate) const fn at_listener(listener: &Listener) -> Option<Self> {
        let flooded = listener.is_flooded();
        if flooded && listener.syn_cookies == 0 {
            return Some(Self::SynQueueFull);
        }
        // Of the two that drop, the kernel asks this one second. It drops what a SYN cookie would
        // answer, too.
        if listener.accept_queue_full {
            return Some(Self::AcceptQueueFull);
        }
        if flooded {
            return Some(Self::SynCookies);
        }
        if !listener.is_enabled() {
            return Some(Self::Off);
        }
        if listener.limit == 0 {
            return Some(Self::ListenerWithout);
        }
        if listener.queue_full {
            return Some(Self::QueueFull);
        }
        if listener.needs_no_cookie() {
            return Some(Self::WithoutCookie);
        }
        None
    }

    /// What the option itself comes to.
    #[inline(always)]
    pub(crate) fn by_cookie<'a>(syn: &Syn, keys: impl FnOnce() -> Option<&'a KeySet>) -> Self {
        match syn.options.fast_open {
            FastOpen::Absent => Self::without_option(syn),
            FastOpen::Request => Self::Request,
            FastOpen::BadLength => Self::BadLength,
            FastOpen::Cookie(cookie) => match keys() {
                Some(keys) => Self::of_cookie(cookie, syn, keys),
                None => Self::BadCookie,
            },
        }
    }

    #[inline(always)]
    pub(crate) const fn without_option(syn: &Syn) -> Self {
        if syn.options.malformed {
            Self::Malformed
        } else {
            Self::NoOption
        }
    }

    #[inline(always)]
    fn of_cookie(cookie: Cookie, syn: &Syn, keys: &KeySet) -> Self {
        for index in 0..KeySet::MAX {
            if index >= keys.len() {
                break;
            }
            if Cookie::issue(keys.key(index), &syn.addresses) == cookie {
                return if index == 0 {
                    Self::Primary
                } else {
                    Self::Backup
                };
            }
        }
        Self::BadCookie
    }

    /// Counts `syn`, which came to this, in `counters`.
    #[inline(always)]
    pub fn count(self, syn: &Syn, counters: &mut Counters) {
        count_seen(syn, counters);
        if let Some(reason) = self.reason() {
            count_reason(reason, syn, counters);
        }
        self.count_mirrored(syn, counters);
    }

    /// Counts what the kernel will count of `syn`, which comes to this.
    #[inline(always)]
    pub(crate) const fn count_mirrored(self, syn: &Syn, counters: &mut Counters) {
        match self {
            Self::Primary | Self::WithoutCookie => counters.add(Counter::Passive, 1),
            Self::Backup => {
                counters.add(Counter::Passive, 1);
                counters.add(Counter::PassiveAltKey, 1);
            }
            Self::BadCookie | Self::BadLength => counters.add(Counter::PassiveFail, 1),
            Self::QueueFull => counters.add(Counter::ListenOverflow, 1),
            _ => {}
        }
        // The kernel counts a request before it asks whether it will answer.
        if matches!(syn.options.fast_open, FastOpen::Request)
            && matches!(
                self,
                Self::Request
                    | Self::WithoutCookie
                    | Self::Off
                    | Self::ListenerWithout
                    | Self::QueueFull
            )
        {
            counters.add(Counter::CookieReqd, 1);
        }
    }
}

/// Counts what was seen of `syn`, whatever becomes of it.
#[inline(always)]
pub(crate) fn count_seen(syn: &Syn, counters: &mut Counters) {
    counters.add(Counter::Syns, 1);
    if syn.data_len > 0 {
        counters.add(Counter::SynsWithData, 1);
        counters.add(Counter::SynDataBytes, u64::from(syn.data_len));
    }
    if syn.options.malformed {
        counters.add(Counter::OptionsMalformed, 1);
    }
    if syn.options.experimental {
        counters.add(Counter::OptionsExperimental, 1);
    }
}

/// Counts why `syn` does not get the Fast Open that it asked for, if it did.
#[inline(always)]
pub(crate) const fn count_reason(reason: Counter, syn: &Syn, counters: &mut Counters) {
    if syn.options.malformed || !matches!(syn.options.fast_open, FastOpen::Absent) {
        counters.add(reason, 1);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn outcomes_are_in_the_order_of_their_discriminants() {
        for (index, outcome) in Outcome::ALL.into_iter().enumerate() {
            assert_eq!(outcome as usize, index);
            assert_eq!(Outcome::from_number(index as u8), outcome);
        }
    }
}
