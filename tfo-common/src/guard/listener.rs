//! The fields of a listener on which the guard depends.

use crate::wire::options::negotiated::HostOptions;

/// Requests that press no SYN queue which has room for them.
const PRESSURE_FLOOR: u32 = 8;

/// A listener's receive buffer in bytes, and flags above it, packed into one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenerFlags(u64);

impl ListenerFlags {
    /// No listener gets the SYN, or one that reopens a connection in `TIME_WAIT`.
    pub const NONE: Self = Self(0);
    const LISTENS: u64 = 1 << 32;
    const UNFIT: u64 = 1 << 33;
    const SYN_QUEUE_PRESSED: u64 = 1 << 34;
    const ACCEPT_QUEUE_FULL: u64 = 1 << 39;
    const BUFFER_LOCKED: u64 = 1 << 40;
    const WINDOW_SCALING: u64 = 1 << 35;
    const SACK: u64 = 1 << 36;
    const ECN: u64 = 1 << 37;
    const TIMESTAMPS: u64 = 1 << 38;
    /// Shift of bits that are the controller's alone.
    const CONTROLLERS: u32 = 48;

    /// A listener with a receive buffer of `receive_buffer` bytes (`sk_rcvbuf`), under these sysctls.
    #[inline(always)]
    pub const fn new(receive_buffer: u32, host: HostOptions) -> Self {
        Self(receive_buffer as u64 | Self::LISTENS)
            .with(host.window_scaling, Self::WINDOW_SCALING)
            .with(host.sack, Self::SACK)
            .with(host.ecn, Self::ECN)
            .with(host.timestamps, Self::TIMESTAMPS)
    }

    /// The same with `pending` requests in a SYN queue of `backlog` (`sk_max_ack_backlog`).
    #[inline(always)]
    #[must_use]
    pub const fn syn_queue(self, pending: u32, backlog: u32) -> Self {
        let half = backlog / 2;
        let floor = if half > PRESSURE_FLOOR {
            half
        } else {
            PRESSURE_FLOOR
        };
        self.with(
            pending > floor || pending > backlog,
            Self::SYN_QUEUE_PRESSED,
        )
    }

    /// The same; `yes`: `SO_RCVBUF` set the receive buffer (`SOCK_RCVBUF_LOCK`).
    #[inline(always)]
    #[must_use]
    pub const fn buffer_locked(self, yes: bool) -> Self {
        self.with(yes, Self::BUFFER_LOCKED)
    }

    /// The same; `yes`: the accept queue is full.
    #[inline(always)]
    #[must_use]
    pub const fn accept_queue_full(self, yes: bool) -> Self {
        self.with(yes, Self::ACCEPT_QUEUE_FULL)
    }

    /// The same; `yes`: the kernel opens no connection there by an ACK.
    #[inline(always)]
    #[must_use]
    pub const fn unfit(self, yes: bool) -> Self {
        self.with(yes, Self::UNFIT)
    }

    /// The same with 16 bits for the controller, which the program does not read.
    #[must_use]
    pub const fn with_controllers(self, bits: u16) -> Self {
        let others = self.0 & ((1 << Self::CONTROLLERS) - 1);
        Self(others | (bits as u64) << Self::CONTROLLERS)
    }

    /// Those bits.
    pub const fn controllers(self) -> u16 {
        (self.0 >> Self::CONTROLLERS) as u16
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

    /// The SYN queue is full, or more than half full with more than a few requests.
    #[inline(always)]
    pub const fn is_syn_queue_pressed(self) -> bool {
        self.is(Self::SYN_QUEUE_PRESSED)
    }

    /// The accept queue is full: the kernel drops SYNs, and ACKs that would open a connection.
    #[inline(always)]
    pub const fn is_accept_queue_full(self) -> bool {
        self.is(Self::ACCEPT_QUEUE_FULL)
    }

    /// `sk_rcvbuf`, in bytes.
    #[inline(always)]
    pub const fn receive_buffer(self) -> u32 {
        self.0 as u32
    }

    /// Bytes of the greatest window: half the receive buffer (`tcp_full_space`).
    #[inline(always)]
    pub const fn space(self) -> u32 {
        self.receive_buffer() / 2
    }

    /// The window scale that the kernel advertises there, where that of listeners without `SO_RCVBUF` is `of_host`
    /// (`tcp_select_initial_window`).
    #[inline(always)]
    pub const fn window_scale(self, of_host: u32) -> u32 {
        const UNSCALED_BITS: u32 = 15;
        if !self.is(Self::BUFFER_LOCKED) {
            return of_host;
        }
        // Written so that the program needs no count of leading zeros. A receive buffer is less than 2^31.
        let (mut scale, mut bits) = (0, 1);
        while bits <= 14 {
            if self.space() >> (UNSCALED_BITS + bits) != 0 {
                scale = bits;
            }
            bits += 1;
        }
        scale
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

/// The fields of a listener and its namespace that show in the headers of a SYN-ACK, packed into one word.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct HeaderRules(u64);

impl HeaderRules {
    /// The defaults of Linux.
    pub const DEFAULT: Self = Self::new(0, Self::OF_DEVICE, 0);
    /// In place of a hop limit: the device's (`net.ipv6.conf.DEVICE.hop_limit`).
    pub const OF_DEVICE: u8 = 0;
    const HOP_LIMIT: u32 = 16;
    const TRAFFIC_CLASS: u32 = 24;
    const REFLECTS: u64 = 1 << 32;

    /// `mss`: `TCP_MAXSEG`, 0 where it is not set. `hop_limit`: IPv4's TTL or IPv6's hop limit. `traffic_class`: IPv4's TOS or
    /// IPv6's traffic class.
    #[inline(always)]
    pub const fn new(mss: u16, hop_limit: u8, traffic_class: u8) -> Self {
        Self(
            mss as u64
                | (hop_limit as u64) << Self::HOP_LIMIT
                | (traffic_class as u64) << Self::TRAFFIC_CLASS,
        )
    }

    /// The same; `yes`: the SYN's traffic class is reflected (`net.ipv4.tcp_reflect_tos`).
    #[inline(always)]
    #[must_use]
    pub const fn reflecting(self, yes: bool) -> Self {
        Self(self.0 | if yes { Self::REFLECTS } else { 0 })
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

    /// `mss`, or the least of it and `TCP_MAXSEG` (`tcp_parse_options`).
    #[inline(always)]
    pub const fn limited_mss(self, mss: u16) -> u16 {
        let own = self.0 as u16;
        if own != 0 && own < mss { own } else { mss }
    }

    /// TTL or hop limit, where that of the device is `of_device`.
    #[inline(always)]
    pub const fn hop_limit(self, of_device: u8) -> u8 {
        match (self.0 >> Self::HOP_LIMIT) as u8 {
            Self::OF_DEVICE => of_device,
            own => own,
        }
    }

    /// TOS or traffic class of the answer to a SYN with this one (`tcp_v4_send_synack`).
    #[inline(always)]
    pub const fn traffic_class(self, of_syn: u8) -> u8 {
        const ECN: u8 = 3;
        let own = (self.0 >> Self::TRAFFIC_CLASS) as u8;
        if self.0 & Self::REFLECTS == 0 {
            own
        } else {
            of_syn & !ECN | own & ECN
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pressed(pending: u32, backlog: u32) -> bool {
        let none = ListenerFlags::from_word(0);
        none.syn_queue(pending, backlog).is_syn_queue_pressed()
    }

    #[test]
    fn a_few_requests_press_no_queue_that_has_room() {
        assert!(!pressed(2, 5) && !pressed(5, 5) && pressed(6, 5));
        assert!(!pressed(8, 12) && pressed(9, 12));
        assert!(!pressed(512, 1024) && pressed(513, 1024));
        assert!(pressed(2, 1) && !pressed(1, 1));
    }

    #[test]
    fn a_buffer_of_its_own_has_a_scale_of_its_own() {
        let scale = |buffer: u32, locked| {
            let listener = ListenerFlags::from_word(buffer.into()).buffer_locked(locked);
            listener.window_scale(10)
        };
        assert_eq!(scale(345_272 * 2, true), 3);
        assert_eq!(
            (
                scale(4096, true),
                scale(131_070, true),
                scale(131_072, true)
            ),
            (0, 0, 1)
        );
        assert_eq!(scale(345_272, false), 10);
    }

    #[test]
    fn a_traffic_class_is_reflected_without_its_ecn_bits() {
        let rules = HeaderRules::new(1000, 128, 0x21);
        assert_eq!(rules.traffic_class(0xb9), 0x21);
        assert_eq!(rules.reflecting(true).traffic_class(0xbb), 0xb9);
        assert_eq!((rules.hop_limit(64), rules.limited_mss(1460)), (128, 1000));
        assert_eq!(HeaderRules::DEFAULT.hop_limit(65), 65);
        assert_eq!(rules.limited_mss(536), 536);
        assert_eq!(HeaderRules::DEFAULT.limited_mss(1460), 1460);
    }
}
