//! Cookies of the data path's own: issued in place of the kernel's, and translated to it when they come back.
//!
//! A kernel's cookie is good for one client address, one server address and two keys. An own cookie is good for what
//! [`OwnCookies`] says: a prefix of client addresses, a named service of any number of hosts, and a lifetime. It has the
//! kernel's length, so that every rewrite keeps the packet's: the first byte numbers the time slot of its secret, the
//! other seven are the upper ones of SipHash-2-4 over client prefix, service and slot.
//!
//! Secrets stand in a ring by slot: one hash decides, whatever their number.

#[cfg(feature = "user")]
use zeroize::Zeroize;

use super::{Cookie, Key};
use crate::{
    counters::Counter,
    numbered::numbered,
    wire::addresses::{Addresses, PrefixMask},
};

/// Secrets of [`OwnCookies`]: one for each value of a cookie's first byte.
pub const SECRETS: usize = 256;

numbered! {
    /// The verdict on a SYN's cookie before the kernel's keys are asked. The usual one is not 0:
    /// otherwise LLVM would zero it, with its neighbours in [`crate::context::SynContext`], by a
    /// call.
    pub enum OwnCookie: u32 else None {
        /// An own cookie of this interval or the last one: translated to the kernel's primary key.
        Young = "young",
        /// Nobody looked: own cookies are off, or this interface does not translate. It gets none issued.
        None = "none",
        /// It is no own cookie, or a request: the kernel's keys decide.
        Foreign = "foreign",
        /// An older one in the first half of its life: likewise. Under two keys that change as often, the kernel would have
        /// refused its own.
        Lasting = "lasting",
        /// An own cookie past half of its life: translated to the backup key, so that the kernel has it renewed.
        Old = "old",
        /// An own cookie past its life: not translated, so the kernel refuses it and issues another.
        Expired = "expired",
        /// A good own cookie that could not be translated: nobody listens there, or the listener has no key.
        Untranslated = "untranslated",
    }
}

impl OwnCookie {
    /// The cookie is translated.
    #[inline(always)]
    pub const fn is_good(self) -> bool {
        matches!(self, Self::Young | Self::Lasting | Self::Old)
    }

    /// The counter of SYNs with such a cookie.
    #[inline(always)]
    pub const fn counter(self) -> Option<Counter> {
        match self {
            Self::None | Self::Foreign => None,
            Self::Young => Some(Counter::OwnYoung),
            Self::Lasting => Some(Counter::OwnLasting),
            Self::Old => Some(Counter::OwnOld),
            Self::Expired => Some(Counter::OwnExpired),
            Self::Untranslated => Some(Counter::OwnUntranslated),
        }
    }
}

numbered! {
    /// The source of the secrets of own cookies; for the controller.
    pub enum OwnSecretSource: u64 else Random {
        /// Made by this host, for itself alone.
        Random = "random",
        /// Derived from a secret that hosts share, and the clock.
        Secret = "secret",
        /// In a file that another program writes.
        File = "file",
        /// In the document of the host's farm.
        Etcd = "etcd",
    }
}

/// The rules and secrets in force: the value of the map [`crate::abi::OWN_COOKIES`].
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct OwnCookies {
    /// A time slot.
    pub slot: u64,
    /// The start of `slot`, in nanoseconds of `CLOCK_MONOTONIC`; [`Self::NO_CLOCK`] where no clock
    /// ends it.
    pub since: u64,
    /// Nanoseconds of a slot, not 0.
    pub interval: u64,
    /// Slots for which a cookie is good after its own; at most [`Self::MAX_LIFETIME`].
    pub lifetime: u64,
    /// The last slot that has a secret. After it, no cookies are issued.
    pub last: u64,
    /// The prefixes of client addresses that share a cookie.
    pub clients: PrefixMask,
    /// Stands for the service's name and the prefixes' lengths, in the lower [`Self::SERVICE_BITS`]: a cookie of other ones is
    /// none of these.
    pub service: u64,
    /// Not 0 where the service has a name; else each server address is a service of its own.
    pub named: u64,
    /// Bytes of the service's name, padded with zeroes. For people; the program does not read it.
    pub name: [u8; Self::MAX_NAME],
    /// The source of the secrets: an [`OwnSecretSource`].
    pub source: u64,
    /// Not 0 where cookies are issued; else they are only taken.
    pub issues: u64,
    /// Secrets by slot, modulo [`SECRETS`].
    pub secrets: [Key; SECRETS],
}

// SAFETY: `repr(C)` and u64 throughout, but for 64 bytes: no padding, and any bytes are rules.
#[cfg(feature = "user")]
unsafe impl aya::Pod for OwnCookies {}

#[cfg(feature = "user")]
impl Zeroize for OwnCookies {
    fn zeroize(&mut self) {
        self.secrets.zeroize();
    }
}

/// Entries of [`crate::abi::OWN_ASKED`]. One that another SYN takes costs its client nothing: it keeps the kernel's cookie.
pub const ASKED: usize = 1 << 14;

/// The entry of a [`crate::wire::flow::flow_tag`].
#[inline(always)]
pub const fn asked_index(tag: u64) -> u32 {
    (tag >> 40) as u32 % ASKED as u32
}

impl OwnCookies {
    /// No own cookies.
    pub const OFF: Self = Self {
        slot: 0,
        since: 0,
        interval: 0,
        lifetime: 0,
        last: 0,
        clients: PrefixMask::OFF,
        service: 0,
        named: 0,
        name: [0; Self::MAX_NAME],
        source: 0,
        issues: 0,
        secrets: [Key::ZERO; SECRETS],
    };
    /// A [`Self::since`] that no clock reaches.
    pub const NO_CLOCK: u64 = u64::MAX;
    /// Longest name of a service, in bytes.
    pub const MAX_NAME: usize = 64;
    /// Longest lifetime in slots: the ring also holds the secrets of expired cookies and of slots to come.
    pub const MAX_LIFETIME: u64 = 100;
    /// Most bits of a service's number.
    pub const SERVICE_BITS: u32 = 56;

    /// `false` for [`Self::OFF`].
    #[inline(always)]
    pub const fn is_on(&self) -> bool {
        self.interval != 0
    }

    /// The time slot at `now`, in nanoseconds of `CLOCK_MONOTONIC`.
    #[inline(always)]
    pub const fn slot_at(&self, now: u64) -> u64 {
        match now.saturating_sub(self.since).checked_div(self.interval) {
            Some(slots) => self.slot + slots,
            None => self.slot,
        }
    }

    /// The cookie for the client and the server of `addresses`, those of a SYN; `None` where none is issued, or no secret is
    /// left.
    #[inline(always)]
    pub fn issue(&self, addresses: &Addresses, now: u64) -> Option<Cookie> {
        let slot = self.slot_at(now);
        if slot > self.last || self.issues == 0 {
            return None;
        }
        Some(self.cookie(addresses, slot as u8))
    }

    /// Returns the age of `cookie` for these addresses; [`OwnCookie::Foreign`] if it is no own one.
    #[inline(always)]
    pub fn age(&self, cookie: Cookie, addresses: &Addresses, now: u64) -> OwnCookie {
        // A host of the same service whose clock is ahead issues by the next slot.
        let next = self.slot_at(now) + 1;
        let byte = cookie.word() as u8;
        let back = u64::from((next as u8).wrapping_sub(byte));
        let slots = back.saturating_sub(1);
        // Behind the last slot with a secret, the ring would give an old one's.
        let age = if slots > 2 * self.lifetime || next.wrapping_sub(back) > self.last {
            return OwnCookie::Foreign;
        } else if slots > self.lifetime {
            OwnCookie::Expired
        } else if 2 * slots > self.lifetime {
            OwnCookie::Old
        } else if slots > 1 {
            OwnCookie::Lasting
        } else {
            OwnCookie::Young
        };
        if self.cookie(addresses, byte) == cookie {
            age
        } else {
            OwnCookie::Foreign
        }
    }

    #[inline(always)]
    fn cookie(&self, addresses: &Addresses, slot: u8) -> Cookie {
        let secret = &self.secrets[usize::from(slot) % SECRETS];
        let client = self.clients.prefix(addresses).0;
        let of_service = self.service << u8::BITS | u64::from(slot);
        let named = self.named != 0;
        let hash = match addresses {
            Addresses::V4(both) => {
                // The address is the upper half of the mapped form's second word.
                let server = if named { 0 } else { both >> 32 };
                secret.siphash(&[client[1] >> 32 | server << 32, of_service])
            }
            Addresses::V6([_, _, a, b]) => {
                let server = if named { [0; 2] } else { [*a, *b] };
                secret.siphash(&[client[0], client[1], server[0], server[1], of_service])
            }
        };
        Cookie::from_word(hash & !0xff | u64::from(slot))
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const SECOND: u64 = 1_000_000_000;
    const LIFETIME: u64 = 14;

    fn rules(service: u64, v4: u8, v6: u8) -> OwnCookies {
        let mut secrets = [Key::ZERO; SECRETS];
        for (index, secret) in secrets.iter_mut().enumerate() {
            *secret = Key::from_words(index as u64, 7);
        }
        OwnCookies {
            slot: 1000,
            since: 50 * SECOND,
            interval: 10 * SECOND,
            lifetime: LIFETIME,
            last: 1300,
            clients: PrefixMask::new(v4, v6),
            service,
            named: u64::from(service > 1000),
            issues: 1,
            secrets,
            ..OwnCookies::OFF
        }
    }

    fn v4(client: [u8; 4], server: [u8; 4]) -> Addresses {
        Addresses::v4(client, server)
    }

    fn v6(client: u128, server: u128) -> Addresses {
        Addresses::v6(client.to_be_bytes(), server.to_be_bytes())
    }

    #[test]
    fn slots_follow_the_clock() {
        let rules = rules(0, 32, 128);
        for (seconds, slot) in [(0, 1000), (50, 1000), (59, 1000), (60, 1001), (1050, 1100)] {
            assert_eq!(rules.slot_at(seconds * SECOND), slot);
        }
        let addresses = v4([10, 0, 0, 1], [10, 0, 0, 2]);
        assert!(rules.issue(&addresses, 3059 * SECOND).is_some());
        assert!(rules.issue(&addresses, 3060 * SECOND).is_none());
        let still = OwnCookies {
            since: OwnCookies::NO_CLOCK,
            ..rules
        };
        assert_eq!(still.slot_at(u64::MAX - 1), 1000);
        let silent = OwnCookies { issues: 0, ..rules };
        assert!(silent.issue(&addresses, 60 * SECOND).is_none());
    }

    #[test]
    fn a_cookie_ages_slot_by_slot() {
        let rules = rules(0, 32, 128);
        for addresses in [v4([10, 0, 0, 1], [10, 0, 0, 2]), v6(1, 2)] {
            let issued = rules.issue(&addresses, 100 * SECOND).unwrap();
            for slots in 0..254 {
                let now = (100 + 10 * slots) * SECOND;
                let expected = match slots {
                    0..=1 => OwnCookie::Young,
                    2..=7 => OwnCookie::Lasting,
                    8..=14 => OwnCookie::Old,
                    15..=28 => OwnCookie::Expired,
                    _ => OwnCookie::Foreign,
                };
                assert_eq!(rules.age(issued, &addresses, now), expected, "{slots}");
            }
            // The ring comes round: no secret of that slot is left.
            let late = (100 + 10 * 256 + 500) * SECOND;
            let reissued = OwnCookies {
                slot: 1000 - 256 + 50,
                ..rules
            };
            let old = reissued.issue(&addresses, 50 * SECOND).unwrap();
            let age = rules.age(old, &addresses, late);
            assert_eq!(age, OwnCookie::Foreign);
            // Of a host whose clock is ahead.
            let ahead = rules.age(issued, &addresses, 99 * SECOND);
            assert_eq!(ahead, OwnCookie::Young);
            assert_eq!(
                rules.age(issued, &addresses, 79 * SECOND),
                OwnCookie::Foreign
            );
        }
    }

    #[test]
    fn a_cookie_is_bound_to_prefix_and_service() {
        let now = 100 * SECOND;
        let server = [192, 0, 2, 1];
        let (own, pool) = (rules(0, 32, 128), rules(0, 28, 64));
        let named = rules(1077, 32, 128);
        let issued = |rules: &OwnCookies| rules.issue(&v4([10, 0, 0, 1], server), now).unwrap();
        let takes = |rules: &OwnCookies, cookie, client, server| {
            rules.age(cookie, &v4(client, server), now) == OwnCookie::Young
        };
        assert!(!takes(&own, issued(&own), [10, 0, 0, 2], server));
        assert!(takes(&pool, issued(&pool), [10, 0, 0, 15], server));
        assert!(!takes(&pool, issued(&pool), [10, 0, 0, 16], server));
        assert!(!takes(&own, issued(&own), [10, 0, 0, 1], [192, 0, 2, 2]));
        assert!(takes(&named, issued(&named), [10, 0, 0, 1], [192, 0, 2, 2]));
        assert!(!takes(
            &rules(1078, 32, 128),
            issued(&named),
            [10, 0, 0, 1],
            server
        ));
        let cookie = pool.issue(&v6(1 << 64 | 5, 9), now).unwrap();
        let age = |client, server| pool.age(cookie, &v6(client, server), now);
        assert_eq!(age(1 << 64 | 6, 9), OwnCookie::Young);
        assert_eq!(age(2 << 64 | 5, 9), OwnCookie::Foreign);
        assert_eq!(age(1 << 64 | 5, 10), OwnCookie::Foreign);
    }

    proptest! {
        #[test]
        fn no_other_bytes_are_taken(word: u64, client: [u8; 4], seconds in 0_u64..10_000) {
            let rules = rules(0, 24, 64);
            let addresses = v4(client, [192, 0, 2, 1]);
            let age = rules.age(Cookie::from_word(word), &addresses, seconds * SECOND);
            prop_assert_eq!(age, OwnCookie::Foreign);
        }

        #[test]
        fn what_is_issued_is_taken_for_its_whole_life(
            client: [u8; 4], wide: [u64; 4], seconds in 100_u64..1000, later in 0..=10 * LIFETIME,
        ) {
            let rules = rules(5, 24, 64);
            for addresses in [v4(client, [192, 0, 2, 1]), Addresses::V6(wide)] {
                let cookie = rules.issue(&addresses, seconds * SECOND).unwrap();
                let age = rules.age(cookie, &addresses, (seconds + later) * SECOND);
                prop_assert!(age.is_good());
            }
        }
    }
}
