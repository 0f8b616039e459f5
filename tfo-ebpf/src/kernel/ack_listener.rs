//! The listener that an ACK is for.

use aya_ebpf::EbpfContext;
use tfo_common::wire::ack::Ack;

use super::{
    barrier::barrier_var,
    earlier,
    listener::ListenSocket,
    offsets::offset,
    socket::{Found, LISTEN, SOURCE_PORT, tcp_sock},
};

/// The listener that gets an ACK of no connection, or would if an earlier one made room. It has to be released.
pub(crate) struct AckListener {
    found: Found,
    /// The kernel's `struct tcp_sock`.
    pub(crate) tcp: usize,
    /// The sequence number of a reset that removes the earlier connection; only where [`Self::meets_earlier`].
    pub(crate) reset_number: u32,
    /// Flags in one word, so that the verifier does not follow each way to each of them.
    flags: u64,
}

impl AckListener {
    const UNFIT: u64 = 1;
    const ACCEPT_QUEUE_FULL: u64 = 2;
    const OVERFLOWED: u64 = 4;
    const MEETS_EARLIER: u64 = 8;

    #[inline(always)]
    fn flags(tcp: usize, ack: &Ack, meets_earlier: bool) -> u64 {
        let flag = |set: bool, flag: u64| if set { flag } else { 0 };
        let listener = ListenSocket::read(tcp);
        let flags = flag(listener.is_unfit(), Self::UNFIT)
            | flag(listener.is_accept_queue_full(), Self::ACCEPT_QUEUE_FULL)
            | flag(listener.overflowed(), Self::OVERFLOWED)
            | flag(meets_earlier, Self::MEETS_EARLIER);
        barrier_var(flags, ack.sequence.into())
    }

    /// The kernel opens no connection there by an ACK.
    #[inline(always)]
    pub(crate) const fn is_unfit(&self) -> bool {
        self.flags & Self::UNFIT != 0
    }

    /// The accept queue is full.
    #[inline(always)]
    pub(crate) const fn is_accept_queue_full(&self) -> bool {
        self.flags & Self::ACCEPT_QUEUE_FULL != 0
    }

    /// The kernel checks SYN cookies there.
    #[inline(always)]
    pub(crate) const fn overflowed(&self) -> bool {
        self.flags & Self::OVERFLOWED != 0
    }

    /// A socket of an earlier connection gets the ACK.
    #[inline(always)]
    pub(crate) const fn meets_earlier(&self) -> bool {
        self.flags & Self::MEETS_EARLIER != 0
    }

    /// Looks it up; `None` if a connection gets the ACK, or nobody. `replaces`: one that the ACK cannot be of may be an earlier
    /// one.
    #[inline(always)]
    pub(crate) fn look_up(ctx: &impl EbpfContext, ack: &Ack, replaces: bool) -> Option<Self> {
        if offset!(known) == 0 {
            return None;
        }
        let mut found = Found::look_up(ctx, &ack.addresses, ack.ports)?;
        let mut reset_number = None;
        if found.state != LISTEN {
            if replaces {
                reset_number = earlier::reset_number(found.socket.cast(), found.state, ack);
            }
            found.release();
            reset_number?;
            found = Found::look_up(ctx, &ack.addresses, ack.ports & !SOURCE_PORT)?;
        }
        match tcp_sock(found.socket.cast()) {
            Some(tcp) if found.state == LISTEN => Some(Self {
                found,
                tcp,
                reset_number: reset_number.unwrap_or_default(),
                flags: Self::flags(tcp, ack, reset_number.is_some()),
            }),
            _ => {
                found.release();
                None
            }
        }
    }

    #[inline(always)]
    pub(crate) fn release(self) {
        self.found.release();
    }
}
