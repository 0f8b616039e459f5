//! The table of all counters: name, meaning, and the kernel counter that it mirrors.

/// Declares [`Counter`] and its lists from rows of variant, name and meaning.
macro_rules! counters {
    ($($(#[$doc:meta])* $list:ident { $($variant:ident $name:literal $help:literal,)* })*) => {
        /// A counter. The discriminant is its index in [`Counters`].
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        #[repr(usize)]
        pub enum Counter {
            $($(
                #[doc = $help]
                $variant,
            )*)*
        }

        impl Counter {
            /// Every counter, in the order of its index.
            pub const ALL: [Self; [$($($name,)*)*].len()] = [$($(Self::$variant,)*)*];
            $(
                $(#[$doc])*
                pub const $list: [Self; [$($name,)*].len()] = [$(Self::$variant,)*];
            )*

            /// The name; of a mirror, that of the row of `TcpExt` in `/proc/net/netstat`.
            pub const fn name(self) -> &'static str {
                match self {
                    $($(Self::$variant => $name,)*)*
                }
            }

            /// The meaning, in one line.
            pub const fn help(self) -> &'static str {
                match self {
                    $($(Self::$variant => $help,)*)*
                }
            }
        }
    };
}

counters! {
    /// Mirrors of kernel counters.
    MIRRORED {
        CookieReqd "TCPFastOpenCookieReqd" "SYNs that asked for a cookie",
        Passive "TCPFastOpenPassive" "SYNs whose data was taken",
        PassiveFail "TCPFastOpenPassiveFail" "SYNs with a cookie that is not valid",
        PassiveAltKey "TCPFastOpenPassiveAltKey" "SYNs with a valid cookie of the backup key",
        ListenOverflow "TCPFastOpenListenOverflow" "SYNs that met a full Fast Open queue",
    }
    /// Counters of SYNs and frames.
    OWN {
        Syns "Syns" "SYNs seen",
        SynsWithData "SynsWithData" "SYNs that carried data",
        SynDataBytes "SynDataBytes" "bytes of data in SYNs",
        OptionsMalformed "OptionsMalformed" "SYNs with malformed options",
        OptionsExperimental "OptionsExperimental" "SYNs with the experimental option, kind 254",
        Unparsed "Unparsed" "frames that may be a SYN and were passed unread",
        Elsewhere "Elsewhere" "SYNs with Fast Open, or at a guarded port, that are for no socket of this host: passed",
    }
    /// Actions of policies, then their causes. Every SYN that a policy acted on counts under one of each.
    POLICY {
        PolicyReissue "PolicyReissue" "SYNs whose cookie was rewritten to a request",
        PolicyFallback "PolicyFallback" "SYNs whose Fast Open option was removed",
        PolicyDrop "PolicyDrop" "SYNs dropped",
        PolicyRule "PolicyRule" "the rule for such SYNs",
        PolicyDenied "PolicyDenied" "the source is on the deny list",
        PolicyValidSource "PolicyValidSource" "too many valid cookies of one source",
        PolicyValidPort "PolicyValidPort" "too many valid cookies at the port",
        PolicyBadSource "PolicyBadSource" "too many bad cookies of one source",
        PolicyBadPort "PolicyBadPort" "too many bad cookies at the port",
        PolicyRequestSource "PolicyRequestSource" "too many cookie requests of one source",
        PolicyRequestPort "PolicyRequestPort" "too many cookie requests at the port",
        PolicyDataSource "PolicyDataSource" "too many SYNs with data of one source",
        PolicyDataPort "PolicyDataPort" "too many SYNs with data at the port",
        PolicyRepeated "PolicyRepeated" "the data came before",
        PolicyUntaken "PolicyUntaken" "no data is taken at this moment, under the action once",
        PolicyWithheld "PolicyWithheld" "the source wastes cookies, which are withheld",
    }
    /// The same of dry runs, in the same order: actions that were only counted.
    DRY_RUN {
        DryRunReissue "DryRunReissue" "SYNs whose cookie would have been rewritten to a request",
        DryRunFallback "DryRunFallback" "SYNs whose Fast Open option would have been removed",
        DryRunDrop "DryRunDrop" "SYNs that would have been dropped",
        DryRunRule "DryRunRule" "the rule for such SYNs",
        DryRunDenied "DryRunDenied" "the source is on the deny list",
        DryRunValidSource "DryRunValidSource" "too many valid cookies of one source",
        DryRunValidPort "DryRunValidPort" "too many valid cookies at the port",
        DryRunBadSource "DryRunBadSource" "too many bad cookies of one source",
        DryRunBadPort "DryRunBadPort" "too many bad cookies at the port",
        DryRunRequestSource "DryRunRequestSource" "too many cookie requests of one source",
        DryRunRequestPort "DryRunRequestPort" "too many cookie requests at the port",
        DryRunDataSource "DryRunDataSource" "too many SYNs with data of one source",
        DryRunDataPort "DryRunDataPort" "too many SYNs with data at the port",
        DryRunRepeated "DryRunRepeated" "the data came before",
        DryRunUntaken "DryRunUntaken" "no data is taken at this moment, under the action once",
        DryRunWithheld "DryRunWithheld" "the source wastes cookies, which are withheld",
    }
    /// SYNs that a policy passed although its rule has an action for them.
    PASSED {
        PolicyAllowed "PolicyAllowed" "SYNs whose source is on the allow list",
        PolicyUnfit "PolicyUnfit" "SYNs not rewritten: the listener takes their data without a cookie",
        PolicyFirst "PolicyFirst" "SYNs with data that came for the first time, under the action once",
    }
    /// Actions of the guard.
    GUARD {
        GuardProven "GuardProven" "SYNs passed for their valid cookie",
        GuardChallenged "GuardChallenged" "SYNs answered with a challenge",
        GuardReferred "GuardReferred" "SYNs answered with a challenge whose answer a host behind this one takes",
        GuardCookies "GuardCookies" "challenges that carried a Fast Open cookie",
        GuardAccepted "GuardAccepted" "connections opened by an ACK that answered a challenge",
        GuardWrongAcks "GuardWrongAcks" "ACKs of no connection that answer no challenge",
        GuardDropped "GuardDropped" "wrong ACKs dropped, since there were too many; the kernel resets the others",
        GuardQueueFull "GuardQueueFull" "ACKs dropped: right, but the listener's accept queue is full",
        GuardCapped "GuardCapped" "SYNs passed: their source exceeded its rate of answers",
        GuardUnanswered "GuardUnanswered" "SYNs passed: no way back is known, no room for the answer, or a wrong checksum",
        GuardUnfit "GuardUnfit" "SYNs passed: the listener cannot be guarded",
        GuardRefused "GuardRefused" "connections that the kernel refused to open",
        GuardSwitchedOn "GuardSwitchedOn" "times that the guard was switched on for a port",
    }
    /// Own cookies, which are translated to the kernel's.
    OWN_COOKIES {
        OwnIssued "OwnIssued" "SYN-ACKs of the kernel whose cookie became an own one",
        OwnYoung "OwnYoung" "SYNs whose own cookie was translated to the kernel's",
        OwnLasting "OwnLasting" "the same from the cookie's third interval on, when the kernel's two keys would be gone",
        OwnOld "OwnOld" "the same past half of the cookie's life: the kernel renews it, where it has a backup key",
        OwnExpired "OwnExpired" "SYNs whose own cookie was past its life: not translated",
        OwnUntranslated "OwnUntranslated" "SYNs whose own cookie was good, but the listener had no key",
    }
    /// Reasons for which a SYN that asked for Fast Open did not get it. Every such SYN counts under exactly one.
    REASONS {
        ReasonOff "ReasonOff" "the server bit of the sysctl is off",
        ReasonListenerWithout "ReasonListenerWithout" "the listener has not enabled Fast Open",
        ReasonQueueFull "ReasonQueueFull" "the listener's Fast Open queue is full",
        ReasonNoListener "ReasonNoListener" "nothing listens there",
        ReasonSynCookies "ReasonSynCookies" "the kernel is sending SYN cookies",
        ReasonSynQueueFull "ReasonSynQueueFull" "the listener's SYN queue is full",
        ReasonAcceptQueueFull "ReasonAcceptQueueFull" "the listener's accept queue is full",
        ReasonBadCookie "ReasonBadCookie" "the cookie is stale, or of another host",
        ReasonBadLength "ReasonBadLength" "the cookie has a length that is never issued",
        ReasonMalformed "ReasonMalformed" "the option, or the list that holds it, is malformed",
        ReasonRetransmission "ReasonRetransmission" "the connection or its request exists already",
        ReasonSigned "ReasonSigned" "a TCP signature (MD5, AO) that the listener does not expect",
        ReasonPolicy "ReasonPolicy" "the port's policy: the cookie or the request was good",
        ReasonGuard "ReasonGuard" "the guard: the sender's address is not proven yet",
    }
}

impl Counter {
    /// Length of the first part of [`Self::POLICY`] and of [`Self::DRY_RUN`], the actions; the rest are causes.
    pub const POLICY_ACTIONS: usize = 3;
}

/// A value for every [`Counter`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(C)]
pub struct Counters([u64; Counter::ALL.len()]);

impl Default for Counters {
    fn default() -> Self {
        Self([0; Counter::ALL.len()])
    }
}

impl Counters {
    /// Adds `amount` to one counter. It wraps after 2^64.
    #[inline(always)]
    pub const fn add(&mut self, counter: Counter, amount: u64) {
        let value = &mut self.0[counter as usize];
        *value = value.wrapping_add(amount);
    }

    /// Adds 1 to the counter with this index, if there is one.
    #[inline(always)]
    pub(crate) fn count(&mut self, index: usize) {
        if let Some(value) = self.0.get_mut(index) {
            *value = value.wrapping_add(1);
        }
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
