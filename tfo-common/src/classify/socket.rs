//! The kernel's state beside the packet: the socket that a SYN meets, and the sysctls.

use crate::{
    fastopen::KeySet,
    wire::{
        options::signature::{SignatureFault, SignatureRules},
        syn::Syn,
        tcp::after,
    },
};

/// The result of the look-up by a SYN's addresses and ports.
#[derive(Clone, Copy)]
pub enum Socket {
    /// Not looked up: the packet and the keys decide alone.
    Unknown,
    /// Nothing listens: the kernel answers with a reset.
    None,
    /// A connection or a request socket: the SYN is a retransmission, or an old one.
    Existing,
    /// A listener.
    Listener(Listener),
}

/// The fields of a listener on which Fast Open depends. Linux: `tcp_conn_request`, `tcp_try_fastopen`.
#[derive(Clone, Copy)]
#[expect(
    clippy::struct_excessive_bools,
    reason = "flags of the kernel's, each from another place"
)]
pub struct Listener {
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: u32,
    /// `net.ipv4.tcp_syncookies`.
    pub syn_cookies: u8,
    /// The SYN queue is full.
    pub syn_queue_full: bool,
    /// The accept queue is full.
    pub accept_queue_full: bool,
    /// Length of the Fast Open queue: `TCP_FASTOPEN`'s argument; 0 for no Fast Open.
    pub max_qlen: u32,
    /// Fast Open connections that are pending.
    pub qlen: u32,
    /// The Fast Open queue is full.
    pub queue_full: bool,
    /// `TCP_FASTOPEN_NO_COOKIE` is set.
    pub no_cookie: bool,
    /// The keys that the kernel checks cookies against now: the listener's own (`TCP_FASTOPEN_KEY`), else the
    /// namespace's. Empty where there is no key yet.
    pub keys: KeySet,
    /// Signatures for which the kernel drops a SYN first.
    pub signatures: SignatureRules,
}

/// Bit of `net.ipv4.tcp_fastopen`: listeners take Fast Open (`TFO_SERVER_ENABLE`).
pub const SERVER: u32 = 0x2;
/// Bit of `net.ipv4.tcp_fastopen`: they need no cookie (`TFO_SERVER_COOKIE_NOT_REQD`).
pub const NO_COOKIE: u32 = 0x200;

/// A connection in `TIME_WAIT` with the SYN's addresses and ports. Linux: `struct tcp_timewait_sock`.
#[derive(Clone, Copy, Debug)]
pub struct TimeWait {
    /// `tw_substate` is `TCP_FIN_WAIT2`: the peer has not closed yet.
    pub half_closed: bool,
    /// `rcv_nxt`: the next sequence number that was expected.
    pub rcv_nxt: u32,
    /// `ts_recent`: the peer's last `TSval`; `None` without timestamps.
    pub ts_recent: Option<u32>,
}

impl TimeWait {
    /// `true` if `syn` reopens the connection, at the listener. Source: `tcp_timewait_state_process`, without its
    /// wrap of clocks after 24 days, which cannot happen within a minute.
    #[inline(always)]
    pub const fn reopens(&self, syn: &Syn) -> bool {
        if self.half_closed {
            return false;
        }
        let ahead = after(syn.sequence, self.rcv_nxt);
        match (self.ts_recent, syn.options.tsval()) {
            (Some(recent), Some(tsval)) => {
                let old = after(recent, tsval) && recent != 0;
                !old && (ahead || after(tsval, recent))
            }
            _ => ahead,
        }
    }
}

impl Listener {
    /// Value of `net.ipv4.tcp_syncookies` that has every SYN answered with a SYN cookie.
    const ALWAYS: u8 = 2;

    /// The kernel answers with a SYN cookie, without Fast Open, or drops the SYN.
    #[inline(always)]
    pub(crate) const fn is_flooded(&self) -> bool {
        self.syn_queue_full || self.syn_cookies == Self::ALWAYS
    }

    /// Why the kernel drops `syn` before it looks at anything else; `None` where it does not.
    #[inline(always)]
    pub(crate) const fn signature_fault(&self, syn: &Syn) -> Option<SignatureFault> {
        syn.options.signatures().check(&self.signatures)
    }

    /// The server bit of the sysctl is set.
    #[inline(always)]
    pub(crate) const fn is_enabled(&self) -> bool {
        self.fast_open & SERVER != 0
    }

    /// A request is answered with a cookie, unless SYN cookies are being sent.
    #[inline(always)]
    pub const fn issues_cookies(&self) -> bool {
        self.is_enabled() && self.max_qlen > 0 && !self.needs_no_cookie()
    }

    /// Data is taken without a cookie.
    #[inline(always)]
    pub(crate) const fn needs_no_cookie(&self) -> bool {
        self.no_cookie || self.fast_open & NO_COOKIE != 0
    }
}
