//! What the kernel knows beside the packet: the socket that a SYN meets, and the host's settings.

use crate::{
    cookie::KeySet,
    syn::Syn,
    wire::signature::{Refusal, SignatureRules},
};

/// What the kernel's tables have for a SYN's addresses and ports.
#[derive(Clone, Copy)]
pub enum Socket {
    /// They were not asked: a SYN is judged by the packet and the keys alone.
    Unknown,
    /// Nothing listens: the kernel answers with a reset.
    None,
    /// A connection or a request of the same addresses and ports: the SYN is a retransmission, or an
    /// old one.
    Existing,
    /// A listener.
    Listener(Listener),
}

/// What decides about Fast Open at a listener. Linux: `tcp_conn_request`, `tcp_try_fastopen`.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "what the kernel asks, one question each"
)]
pub struct Listener {
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: u32,
    /// `net.ipv4.tcp_syncookies`.
    pub syn_cookies: u8,
    /// The SYN queue has no room left.
    pub syn_queue_full: bool,
    /// The accept queue has no room left.
    pub accept_queue_full: bool,
    /// Most Fast Open connections that may be pending: `TCP_FASTOPEN`'s argument; 0 for no Fast Open.
    pub limit: u32,
    /// How many are pending.
    pub queue: u32,
    /// No more Fast Open connections may be pending.
    pub queue_full: bool,
    /// `TCP_FASTOPEN_NO_COOKIE` is set.
    pub no_cookie: bool,
    /// The keys that the kernel holds cookies against at this moment: those that `TCP_FASTOPEN_KEY`
    /// set, else the host's. None where there is no key yet.
    pub keys: KeySet,
    /// Which signatures have a SYN dropped before all this is asked.
    pub signatures: SignatureRules,
}

/// The bit of `net.ipv4.tcp_fastopen` that lets listeners take Fast Open: `TFO_SERVER_ENABLE`.
pub const SERVER: u32 = 0x2;
/// The bit that has them take it without a cookie: `TFO_SERVER_COOKIE_NOT_REQD`.
pub const NO_COOKIE: u32 = 0x200;

/// A connection of the SYN's addresses and ports that this host closed first, and that it remembers for a
/// minute. Linux: `struct tcp_timewait_sock`.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    /// The other end has not closed it yet: `tw_substate` is `TCP_FIN_WAIT2`.
    pub half_closed: bool,
    /// The next sequence number that was due.
    pub next: u32,
    /// The other end's clock, by its last timestamp; `None` where timestamps are not used.
    pub clock: Option<u32>,
}

impl TimeWait {
    /// Whether `syn` opens the connection anew, at the listener. Source: `tcp_timewait_state_process`;
    /// its wrap of clocks after 24 days cannot come about within a minute.
    #[inline(always)]
    pub const fn reopens(&self, syn: &Syn) -> bool {
        if self.half_closed {
            return false;
        }
        let ahead = after(syn.sequence, self.next);
        match (self.clock, syn.options.timestamp) {
            (Some(clock), Some(timestamp)) => {
                let old = after(clock, timestamp) && clock != 0;
                !old && (ahead || after(timestamp, clock))
            }
            _ => ahead,
        }
    }
}

/// Whether one number comes after another, which may have wrapped. Linux: `after`.
#[inline(always)]
const fn after(number: u32, other: u32) -> bool {
    other.wrapping_sub(number).cast_signed() < 0
}

impl Listener {
    /// The value of `net.ipv4.tcp_syncookies` for which every SYN is answered with one.
    const ALWAYS: u8 = 2;

    /// The kernel answers with a SYN cookie, for which it passes over Fast Open, or drops the SYN.
    #[inline(always)]
    pub(crate) const fn is_flooded(&self) -> bool {
        self.syn_queue_full || self.syn_cookies == Self::ALWAYS
    }

    /// Why the kernel drops `syn` without a look at anything here; `None` where it does not.
    #[inline(always)]
    pub(crate) const fn refusal(&self, syn: &Syn) -> Option<Refusal> {
        syn.options.signatures.refusal(&self.signatures)
    }

    /// The host lets listeners take Fast Open.
    #[inline(always)]
    pub(crate) const fn is_enabled(&self) -> bool {
        self.fast_open & SERVER != 0
    }

    /// Whoever asks is given a cookie, or is while the listener is not flooded.
    #[inline(always)]
    pub const fn hands_out_cookies(&self) -> bool {
        self.is_enabled() && self.limit > 0 && !self.needs_no_cookie()
    }

    /// Data is taken from any SYN.
    #[inline(always)]
    pub(crate) const fn needs_no_cookie(&self) -> bool {
        self.no_cookie || self.fast_open & NO_COOKIE != 0
    }
}
