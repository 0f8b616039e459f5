//! The kernel's truth table: what a listener with Fast Open makes of a SYN.
//!
//! Source: Linux' `tcp_try_fastopen` and `tcp_fastopen_cookie_gen_check`. It is decided from the
//! packet and the keys alone; what the listener adds (no Fast Open, a full queue, SYN cookies being
//! sent) is not known here.

use crate::{
    cookie::{Cookie, KeySet},
    counters::{Counter, Counters},
    syn::Syn,
    wire::options::FastOpen,
};

/// What a SYN is, as far as the packet and the keys tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// No Fast Open option: an ordinary SYN.
    NoOption,
    /// A Fast Open option, or the list that holds it, that the kernel passes over.
    Malformed,
    /// Asks for a cookie.
    Request,
    /// A cookie of the primary key.
    Primary,
    /// A cookie of a backup key: accepted, and replaced by one of the primary key.
    Backup,
    /// A cookie of no key that we have.
    BadCookie,
    /// A cookie of a length that is never issued.
    BadLength,
}

impl Outcome {
    /// The outcome in a word or two, for logs.
    pub const fn name(self) -> &'static str {
        match self {
            Self::NoOption => "no option",
            Self::Malformed => "malformed",
            Self::Request => "request",
            Self::Primary => "primary cookie",
            Self::Backup => "backup cookie",
            Self::BadCookie => "bad cookie",
            Self::BadLength => "bad length",
        }
    }

    /// Holds the options of `syn` against `keys`, which are asked for only where a cookie is to be
    /// checked.
    #[inline(always)]
    pub fn of<'a>(syn: &Syn, keys: impl FnOnce() -> Option<&'a KeySet>) -> Self {
        match syn.options.fast_open {
            FastOpen::Absent if syn.options.malformed => Self::Malformed,
            FastOpen::Absent => Self::NoOption,
            FastOpen::Request => Self::Request,
            FastOpen::BadLength => Self::BadLength,
            FastOpen::Cookie(cookie) => match keys() {
                Some(keys) => Self::of_cookie(cookie, syn, keys),
                None => Self::BadCookie,
            },
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
        match self {
            Self::NoOption | Self::Malformed => {}
            Self::Request => counters.add(Counter::CookieReqd, 1),
            Self::Primary => counters.add(Counter::Passive, 1),
            Self::Backup => {
                counters.add(Counter::Passive, 1);
                counters.add(Counter::PassiveAltKey, 1);
            }
            Self::BadCookie | Self::BadLength => counters.add(Counter::PassiveFail, 1),
        }
    }
}
