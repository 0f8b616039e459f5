//! What the guard reads of a listener: whether it can be guarded, and what a challenge has to say for it.

use aya_ebpf::{EbpfContext, bindings::bpf_sock};
use tfo_common::{
    socket::Socket,
    syn::Syn,
    wire::{ack::Ack, offer::Abilities},
};

use crate::{
    case::Findings,
    socket::{self, LISTEN, Tuple, load, offset},
};

/// What the guard has to know of a listener, packed into one word: bytes of its receive buffer, and flags above.
#[derive(Clone, Copy)]
pub(crate) struct Site(u64);

impl Site {
    /// No listener gets the SYN, or one for a connection that it opens anew.
    pub(crate) const NONE: Self = Self(0);
    const LISTENS: u64 = 1 << 32;
    const UNFIT: u64 = 1 << 33;
    const PRESSED: u64 = 1 << 34;
    const SCALES: u64 = 1 << 35;
    const SACK: u64 = 1 << 36;
    const ECN: u64 = 1 << 37;
    const TIMESTAMPS: u64 = 1 << 38;

    /// That of the listener `tcp`.
    #[inline(always)]
    pub(crate) fn read(tcp: usize) -> Self {
        let net: usize = load(tcp + offset!(net));
        let buffer: u32 = load(tcp + offset!(receive_buffer));
        let mut word = u64::from(buffer) | Self::LISTENS;
        let mut note = |set: bool, flag: u64| {
            word |= if set { flag } else { 0 };
        };
        let on = |offset: usize| load::<u8>(net + offset) != 0;
        note(on(offset!(sysctl_window_scaling)), Self::SCALES);
        note(on(offset!(sysctl_sack)), Self::SACK);
        note(on(offset!(sysctl_ecn)), Self::ECN);
        note(on(offset!(sysctl_timestamps)), Self::TIMESTAMPS);
        let max_backlog: u32 = load(tcp + offset!(max_ack_backlog));
        let pending: u32 = load(tcp + offset!(syn_queue));
        note(pending > max_backlog / 2, Self::PRESSED);
        note(is_unfit(tcp), Self::UNFIT);
        Self(word)
    }

    #[inline(always)]
    pub(crate) const fn word(self) -> u64 {
        self.0
    }

    #[inline(always)]
    pub(crate) const fn from_word(word: u64) -> Self {
        Self(word)
    }

    #[inline(always)]
    const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// A listener gets the SYN, and not for a connection that it opens anew.
    #[inline(always)]
    pub(crate) const fn listens(self) -> bool {
        self.is(Self::LISTENS)
    }

    /// It takes no proof.
    #[inline(always)]
    pub(crate) const fn is_unfit(self) -> bool {
        self.is(Self::UNFIT)
    }

    /// Its SYN queue is half full.
    #[inline(always)]
    pub(crate) const fn is_pressed(self) -> bool {
        self.is(Self::PRESSED)
    }

    /// Which options the host uses.
    #[inline(always)]
    pub(crate) const fn abilities(self) -> Abilities {
        Abilities {
            window_scale: self.is(Self::SCALES),
            sack: self.is(Self::SACK),
            ecn: self.is(Self::ECN),
            timestamps: self.is(Self::TIMESTAMPS),
        }
    }

    /// Bytes of its receive buffer.
    #[inline(always)]
    pub(crate) const fn receive_buffer(self) -> u32 {
        self.0 as u32
    }
}

/// Whether the kernel opens no connection at the listener `tcp` on someone else's word, or a wrong one: it
/// speaks MPTCP, or has keys for signatures, or the host sends no SYN cookies.
#[inline(always)]
fn is_unfit(tcp: usize) -> bool {
    let net: usize = load(tcp + offset!(net));
    let signs = |offset: usize| offset != 0 && !socket::lacks_keys(tcp, offset);
    let mptcp = offset!(mptcp);
    load::<u8>(net + offset!(sysctl_syncookies)) == 0
        || (mptcp != 0 && load::<u8>(tcp + mptcp) != 0)
        || signs(offset!(md5_keys))
        || signs(offset!(authentication_keys))
}

/// A listener that gets an ACK of no connection. It is to be released.
pub(crate) struct Waiting {
    socket: *mut bpf_sock,
    /// The kernel's structure of it.
    pub(crate) tcp: usize,
    /// It takes no proof.
    pub(crate) unfit: bool,
}

impl Waiting {
    /// Looks it up; `None` where a connection gets the ACK, or nobody.
    #[inline(always)]
    pub(crate) fn look_up(ctx: &impl EbpfContext, ack: &Ack) -> Option<Self> {
        if offset!(known) == 0 {
            return None;
        }
        let found = Tuple::new(&ack.addresses, ack.ports).look_up(ctx);
        if found.is_null() {
            return None;
        }
        // SAFETY: not null, and not released yet.
        let listens = unsafe { (*found).state } == LISTEN;
        match socket::tcp_sock(found.cast()) {
            Some(tcp) if listens => Some(Self {
                socket: found,
                tcp,
                unfit: is_unfit(tcp),
            }),
            _ => {
                socket::release(found);
                None
            }
        }
    }

    #[inline(always)]
    pub(crate) fn release(self) {
        socket::release(self.socket);
    }
}

/// As [`socket::look_up`], and notes what the guard has to know of a listener. One that gets an ordinary SYN, a flood's most
/// frequent, is asked no more than that.
#[inline(always)]
pub(crate) fn investigate(ctx: &impl EbpfContext, syn: &Syn, findings: Findings) -> Socket {
    findings.put_site(Site::NONE);
    findings.put_issuer(None);
    socket::find(ctx, syn, Some(findings))
}
