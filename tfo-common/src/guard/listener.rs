//! The fields of a listener on which the guard depends.

use crate::wire::options::negotiated::HostOptions;

/// A listener's receive buffer in bytes, and flags above it, packed into one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerFlags(u64);

impl ListenerFlags {
    /// No listener gets the SYN, or one that reopens a connection in `TIME_WAIT`.
    pub const NONE: Self = Self(0);
    const LISTENS: u64 = 1 << 32;
    const UNFIT: u64 = 1 << 33;
    const SYN_QUEUE_HALF_FULL: u64 = 1 << 34;
    const WINDOW_SCALING: u64 = 1 << 35;
    const SACK: u64 = 1 << 36;
    const ECN: u64 = 1 << 37;
    const TIMESTAMPS: u64 = 1 << 38;

    /// A listener with a receive buffer of `receive_buffer` bytes (`sk_rcvbuf`), under these sysctls.
    #[inline(always)]
    pub const fn new(receive_buffer: u32, host: HostOptions) -> Self {
        Self(receive_buffer as u64 | Self::LISTENS)
            .with(host.window_scaling, Self::WINDOW_SCALING)
            .with(host.sack, Self::SACK)
            .with(host.ecn, Self::ECN)
            .with(host.timestamps, Self::TIMESTAMPS)
    }

    /// The same; `yes`: the SYN queue is more than half full.
    #[inline(always)]
    #[must_use]
    pub const fn syn_queue_half_full(self, yes: bool) -> Self {
        self.with(yes, Self::SYN_QUEUE_HALF_FULL)
    }

    /// The same; `yes`: the kernel opens no connection there by an ACK.
    #[inline(always)]
    #[must_use]
    pub const fn unfit(self, yes: bool) -> Self {
        self.with(yes, Self::UNFIT)
    }

    #[inline(always)]
    const fn with(self, set: bool, flag: u64) -> Self {
        Self(self.0 | if set { flag } else { 0 })
    }

    #[inline(always)]
    const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    /// As stored by [`Self::word`].
    #[inline(always)]
    pub const fn from_word(word: u64) -> Self {
        Self(word)
    }

    /// The word to store.
    #[inline(always)]
    pub const fn word(self) -> u64 {
        self.0
    }

    /// A listener gets the SYN, and the SYN does not reopen a connection.
    #[inline(always)]
    pub const fn listens(self) -> bool {
        self.is(Self::LISTENS)
    }

    /// The kernel opens no connection there by an ACK.
    #[inline(always)]
    pub const fn is_unfit(self) -> bool {
        self.is(Self::UNFIT)
    }

    /// The SYN queue is more than half full.
    #[inline(always)]
    pub const fn is_syn_queue_half_full(self) -> bool {
        self.is(Self::SYN_QUEUE_HALF_FULL)
    }

    /// `sk_rcvbuf`, in bytes.
    #[inline(always)]
    pub const fn receive_buffer(self) -> u32 {
        self.0 as u32
    }

    /// The options that the namespace's sysctls switch on.
    #[inline(always)]
    pub const fn host_options(self) -> HostOptions {
        HostOptions {
            window_scaling: self.is(Self::WINDOW_SCALING),
            sack: self.is(Self::SACK),
            ecn: self.is(Self::ECN),
            timestamps: self.is(Self::TIMESTAMPS),
        }
    }
}
