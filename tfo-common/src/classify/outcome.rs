//! The outcomes, and the order in which the kernel decides on one.

use super::socket::Listener;
use crate::{
    counters::Counter,
    fastopen::{Cookie, KeySet},
    numbered::numbered,
    wire::{options::fast_open::FastOpen, syn::Syn},
};

numbered! {
    /// The kernel's treatment of a SYN, and the reason.
    pub enum Outcome: u8 else Signed {
        /// No Fast Open option: an ordinary SYN.
        NoOption = "no option",
        /// A cookie request that the kernel answers with a cookie.
        Request = "request",
        /// A cookie of the primary key: the data is taken.
        Primary = "primary cookie",
        /// A cookie of a backup key: the data is taken, and a cookie of the primary key issued.
        Backup = "backup cookie",
        /// The data is taken whatever the cookie: the host or the listener needs none.
        WithoutCookie = "without cookie",
        /// The Fast Open option, or the list that holds it, is malformed: the kernel ignores it.
        Malformed = "malformed",
        /// A cookie of no known key: stale, or of another host.
        BadCookie = "bad cookie",
        /// A cookie of a length that is never issued.
        BadLength = "bad length",
        /// `net.ipv4.tcp_fastopen` lacks the server bit.
        Off = "off",
        /// The listener has not enabled Fast Open.
        ListenerWithout = "listener without",
        /// The listener's Fast Open queue is full.
        QueueFull = "queue full",
        /// The kernel answers with a SYN cookie, which has no room for Fast Open.
        SynCookies = "SYN cookies",
        /// The listener's SYN queue is full: the kernel drops the SYN.
        SynQueueFull = "SYN queue full",
        /// The listener's accept queue is full: the kernel drops the SYN.
        AcceptQueueFull = "accept queue full",
        /// Nothing listens.
        NoListener = "no listener",
        /// The connection or its request exists already.
        Retransmission = "retransmission",
        /// A signature that the listener does not expect: the kernel drops the SYN.
        Signed = "signed",
    }
}

impl Outcome {
    /// The counter of the reason for which a SYN did not get Fast Open; `None` where it did.
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

    /// The outcome by the listener, before the cookie is read; `None` where the cookie decides.
    #[inline(always)]
    pub(crate) const fn at_listener(listener: &Listener) -> Option<Self> {
        let flooded = listener.is_flooded();
        if flooded && listener.syn_cookies == 0 {
            return Some(Self::SynQueueFull);
        }
        // Checked second. It also drops what a SYN cookie would answer.
        if listener.accept_queue_full {
            return Some(Self::AcceptQueueFull);
        }
        if flooded {
            return Some(Self::SynCookies);
        }
        if !listener.is_enabled() {
            return Some(Self::Off);
        }
        if listener.max_qlen == 0 {
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

    /// The outcome by the cookie.
    #[inline(always)]
    pub(crate) fn by_cookie<'a>(syn: &Syn, keys: impl FnOnce() -> Option<&'a KeySet>) -> Self {
        match syn.options.fast_open() {
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
        if syn.options.is_malformed() {
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
            if keys.key(index).cookie(&syn.addresses) == cookie {
                return if index == 0 {
                    Self::Primary
                } else {
                    Self::Backup
                };
            }
        }
        Self::BadCookie
    }
}
