//! The one table of everything that is counted: index, name, meaning, and the kernel's own counter
//! that it mirrors.

/// One thing that is counted. The discriminant is its index in [`Counters`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum Counter {
    /// SYNs that asked for a cookie.
    CookieReqd,
    /// SYNs with a valid cookie.
    Passive,
    /// SYNs with a cookie that is not valid.
    PassiveFail,
    /// SYNs with a valid cookie of a backup key.
    PassiveAltKey,
    /// SYNs that met a full Fast Open queue.
    ListenOverflow,
    /// All SYNs.
    Syns,
    /// SYNs that carry data.
    SynsWithData,
    /// The data that they carry.
    SynDataBytes,
    /// SYNs with a broken option list or a Fast Open option of an impossible length.
    OptionsMalformed,
    /// SYNs whose Fast Open option has the experimental form.
    OptionsExperimental,
    /// Frames that may be a SYN but were not read.
    Unparsed,
    /// Fast Open not used: net.ipv4.tcp_fastopen lets no listener take Fast Open.
    ReasonOff,
    /// Fast Open not used: the listener does not take Fast Open.
    ReasonListenerWithout,
    /// Fast Open not used: the listener's Fast Open queue is full.
    ReasonQueueFull,
    /// Fast Open not used: nothing listens.
    ReasonNoListener,
    /// Fast Open not used: the kernel is sending SYN cookies.
    ReasonSynCookies,
    /// Fast Open not used: the listener's SYN queue is full.
    ReasonSynQueueFull,
    /// Fast Open not used: the listener's accept queue is full.
    ReasonAcceptQueueFull,
    /// Fast Open not used: the cookie is stale, or of another host.
    ReasonBadCookie,
    /// Fast Open not used: the cookie has a length that is never issued.
    ReasonBadLength,
    /// Fast Open not used: the option is malformed.
    ReasonMalformed,
    /// Fast Open not used: the SYN is a retransmission.
    ReasonRetransmission,
}

impl Counter {
    /// Every counter, in the order of its index.
    pub const ALL: [Self; 22] = [
        Self::CookieReqd,
        Self::Passive,
        Self::PassiveFail,
        Self::PassiveAltKey,
        Self::ListenOverflow,
        Self::Syns,
        Self::SynsWithData,
        Self::SynDataBytes,
        Self::OptionsMalformed,
        Self::OptionsExperimental,
        Self::Unparsed,
        Self::ReasonOff,
        Self::ReasonListenerWithout,
        Self::ReasonQueueFull,
        Self::ReasonNoListener,
        Self::ReasonSynCookies,
        Self::ReasonSynQueueFull,
        Self::ReasonAcceptQueueFull,
        Self::ReasonBadCookie,
        Self::ReasonBadLength,
        Self::ReasonMalformed,
        Self::ReasonRetransmission,
    ];

    /// The reasons for which a SYN that asked for or carried Fast Open did not get it. Every such SYN
    /// counts under exactly one.
    pub const REASONS: [Self; 11] = [
        Self::ReasonOff,
        Self::ReasonListenerWithout,
        Self::ReasonQueueFull,
        Self::ReasonNoListener,
        Self::ReasonSynCookies,
        Self::ReasonSynQueueFull,
        Self::ReasonAcceptQueueFull,
        Self::ReasonBadCookie,
        Self::ReasonBadLength,
        Self::ReasonMalformed,
        Self::ReasonRetransmission,
    ];

    /// The counters that mirror one of the kernel's.
    pub const MIRRORED: [Self; 5] = [
        Self::CookieReqd,
        Self::Passive,
        Self::PassiveFail,
        Self::PassiveAltKey,
        Self::ListenOverflow,
    ];

    /// The counter's name. One that mirrors a row `TcpExt` of `/proc/net/netstat` bears its name.
    pub const fn name(self) -> &'static str {
        match self {
            Self::CookieReqd => "TCPFastOpenCookieReqd",
            Self::Passive => "TCPFastOpenPassive",
            Self::PassiveFail => "TCPFastOpenPassiveFail",
            Self::PassiveAltKey => "TCPFastOpenPassiveAltKey",
            Self::ListenOverflow => "TCPFastOpenListenOverflow",
            Self::Syns => "Syns",
            Self::SynsWithData => "SynsWithData",
            Self::SynDataBytes => "SynDataBytes",
            Self::OptionsMalformed => "OptionsMalformed",
            Self::OptionsExperimental => "OptionsExperimental",
            Self::Unparsed => "Unparsed",
            Self::ReasonOff => "ReasonOff",
            Self::ReasonListenerWithout => "ReasonListenerWithout",
            Self::ReasonQueueFull => "ReasonQueueFull",
            Self::ReasonNoListener => "ReasonNoListener",
            Self::ReasonSynCookies => "ReasonSynCookies",
            Self::ReasonSynQueueFull => "ReasonSynQueueFull",
            Self::ReasonAcceptQueueFull => "ReasonAcceptQueueFull",
            Self::ReasonBadCookie => "ReasonBadCookie",
            Self::ReasonBadLength => "ReasonBadLength",
            Self::ReasonMalformed => "ReasonMalformed",
            Self::ReasonRetransmission => "ReasonRetransmission",
        }
    }

    /// What is counted, in one line for a reader of the CLI.
    pub const fn help(self) -> &'static str {
        match self {
            Self::CookieReqd => "SYNs that asked for a cookie",
            Self::Passive => "SYNs with a valid cookie",
            Self::PassiveFail => "SYNs with a cookie that is not valid",
            Self::PassiveAltKey => "SYNs with a valid cookie of the backup key",
            Self::ListenOverflow => "SYNs that met a full Fast Open queue",
            Self::Syns => "SYNs seen",
            Self::SynsWithData => "SYNs that carried data",
            Self::SynDataBytes => "bytes of data in SYNs",
            Self::OptionsMalformed => "SYNs with malformed options",
            Self::OptionsExperimental => "SYNs with the experimental option, kind 254",
            Self::Unparsed => {
                "frames passed unparsed (fragments, VLAN tags, extension headers, cut short)"
            }
            Self::ReasonOff => "net.ipv4.tcp_fastopen lets no listener take Fast Open",
            Self::ReasonListenerWithout => "the listener does not take Fast Open",
            Self::ReasonQueueFull => "the listener's Fast Open queue is full",
            Self::ReasonNoListener => "nothing listens",
            Self::ReasonSynCookies => "the kernel is sending SYN cookies",
            Self::ReasonSynQueueFull => "the listener's SYN queue is full",
            Self::ReasonAcceptQueueFull => "the listener's accept queue is full",
            Self::ReasonBadCookie => "the cookie is stale, or of another host",
            Self::ReasonBadLength => "the cookie has a length that is never issued",
            Self::ReasonMalformed => "the option is malformed",
            Self::ReasonRetransmission => "the SYN is a retransmission",
        }
    }
}

/// A value for every [`Counter`].
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Counters {
    /// Adds `amount` to one counter. It wraps after 2^64.
    #[inline(always)]
    pub const fn add(&mut self, counter: Counter, amount: u64) {
        let value = &mut self.0[counter as usize];
        *value = value.wrapping_add(amount);
    }

    /// The value of one counter.
    pub const fn get(&self, counter: Counter) -> u64 {
        self.0[counter as usize]
    }
}

impl core::ops::AddAssign for Counters {
    fn add_assign(&mut self, other: Self) {
        for counter in Counter::ALL {
            self.add(counter, other.get(counter));
        }
    }
}

impl core::iter::Sum for Counters {
    fn sum<I: Iterator<Item = Self>>(iter: I) -> Self {
        iter.fold(Self::default(), |mut sum, counters| {
            sum += counters;
            sum
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_table_is_in_the_order_of_its_indices() {
        for (index, counter) in Counter::ALL.into_iter().enumerate() {
            assert_eq!(counter as usize, index);
        }
    }

    #[test]
    fn mirrored_counters_bear_the_kernels_names() {
        for counter in Counter::ALL {
            assert_eq!(
                counter.name().starts_with("TCPFastOpen"),
                Counter::MIRRORED.contains(&counter)
            );
        }
    }
}
