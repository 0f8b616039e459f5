//! The rules of own cookies: how long one is good, for which clients and at which service.

use std::{fmt, ops::Deref, str::FromStr, time::Duration};

use blake2::{Blake2s256, Digest as _};
use tfo_common::{fastopen::own::OwnCookies, wire::addresses::PrefixMask};
use zeroize::Zeroizing;

/// Shortest time for which one secret issues cookies, where a clock ends it. Clocks of hosts differ by less.
const MIN_INTERVAL: Duration = Duration::from_secs(10);
/// IPv6 prefixes that one host has are no shorter.
const MIN_V6: u8 = 64;

/// The rules of own cookies. The default has the kernel's binding, one client and one server address, for two weeks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct OwnCookieRules {
    /// The time for which one secret issues cookies; whole seconds.
    pub interval: Duration,
    /// The time for which a cookie is good, at least; a multiple of `interval`.
    pub lifetime: Duration,
    /// Bits of the IPv4 prefix whose addresses share cookies.
    pub client_v4: u8,
    /// Bits of the IPv6 prefix whose addresses share cookies.
    pub client_v6: u8,
    /// The service; `None` where each server address is one of its own.
    pub service: Option<CookieService>,
}

impl Default for OwnCookieRules {
    fn default() -> Self {
        const DAY: u64 = 86_400;
        Self {
            interval: Duration::from_secs(DAY),
            lifetime: Duration::from_secs(14 * DAY),
            client_v4: 32,
            client_v6: 128,
            service: None,
        }
    }
}

/// Rules that cannot be kept. Each has its remedy.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum OwnRulesError {
    /// The interval is too short, or no whole number of seconds.
    #[error(
        "an interval of {}: a secret issues cookies for at least {}: give a longer one",
        exact(*.0),
        exact(MIN_INTERVAL)
    )]
    Interval(Duration),
    /// The lifetime is no multiple of the interval, or too many of them.
    #[error(
        "a lifetime of {} with an interval of {}: it takes 1 to {most} whole intervals: change one of them, or both",
        exact(*lifetime),
        exact(*interval),
        most = OwnCookies::MAX_LIFETIME
    )]
    Lifetime {
        /// The lifetime.
        lifetime: Duration,
        /// The interval.
        interval: Duration,
    },
    /// The prefix of IPv4 clients.
    #[error("client-prefix-v4 of {0} bits: an IPv4 prefix of clients has 8 to 32")]
    ClientV4(u8),
    /// The prefix of IPv6 clients.
    #[error(
        "client-prefix-v6 of {0} bits: give {MIN_V6} to 128: no host has a prefix shorter than {MIN_V6}, and cookies that strangers share prove no address"
    )]
    ClientV6(u8),
    /// The service's name.
    #[error(
        "service {0:?}: a name has 1 to {most} letters, digits, dots, hyphens or underscores",
        most = OwnCookies::MAX_NAME
    )]
    Service(String),
}

/// Rules and secrets as the data path has them, wiped from memory when dropped.
#[derive(Clone)]
pub struct OwnCookieRing(Box<Zeroizing<OwnCookies>>);

impl OwnCookieRing {
    /// Moves them to the heap.
    pub fn new(cookies: OwnCookies) -> Self {
        Self(Box::new(Zeroizing::new(cookies)))
    }

    /// The time after which a cookie has expired; `None` where no clock ends a slot.
    pub fn life(&self) -> Option<Duration> {
        let slots = self.lifetime + 1;
        let clock = self.since != OwnCookies::NO_CLOCK;
        clock.then(|| Duration::from_nanos(self.interval.saturating_mul(slots)))
    }
}

impl Deref for OwnCookieRing {
    type Target = OwnCookies;

    fn deref(&self) -> &OwnCookies {
        &self.0
    }
}

/// The name of a service whose hosts and addresses share cookies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CookieService(String);

impl FromStr for CookieService {
    type Err = OwnRulesError;

    fn from_str(name: &str) -> Result<Self, OwnRulesError> {
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b".-_".contains(&byte);
        if name.is_empty() || name.len() > OwnCookies::MAX_NAME || !name.bytes().all(is_plain) {
            return Err(OwnRulesError::Service(name.to_owned()));
        }
        Ok(Self(name.to_owned()))
    }
}

impl fmt::Display for CookieService {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// A time in the largest unit of which it is a whole number, as `--interval` takes it.
pub fn exact(time: Duration) -> String {
    let seconds = time.as_secs();
    let units = [(86_400, 'd'), (3600, 'h'), (60, 'm')];
    let unit = units
        .into_iter()
        .find(|(of, _)| seconds > 0 && seconds.is_multiple_of(*of));
    let (of, unit) = unit.unwrap_or((1, 's'));
    format!("{}{unit}", seconds / of)
}

impl OwnCookieRules {
    /// The time after which a cookie has expired.
    pub fn life(&self) -> Duration {
        self.lifetime + self.interval
    }

    /// Refuses what cannot be kept.
    ///
    /// # Errors
    ///
    /// [`OwnRulesError`].
    pub fn check(&self) -> Result<(), OwnRulesError> {
        if self.interval < MIN_INTERVAL {
            return Err(OwnRulesError::Interval(self.interval));
        }
        self.check_without_clock()
    }

    /// As [`Self::check`], for secrets that no clock changes.
    ///
    /// # Errors
    ///
    /// [`OwnRulesError`].
    pub fn check_without_clock(&self) -> Result<(), OwnRulesError> {
        if self.interval.is_zero() || self.interval.subsec_nanos() != 0 {
            return Err(OwnRulesError::Interval(self.interval));
        }
        let (lifetime, interval) = (self.lifetime, self.interval);
        let whole =
            lifetime.subsec_nanos() == 0 && lifetime.as_secs().is_multiple_of(interval.as_secs());
        if !whole || !(1..=OwnCookies::MAX_LIFETIME).contains(&self.lifetime_slots()) {
            return Err(OwnRulesError::Lifetime { lifetime, interval });
        }
        if !(8..=32).contains(&self.client_v4) {
            return Err(OwnRulesError::ClientV4(self.client_v4));
        }
        if !(MIN_V6..=128).contains(&self.client_v6) {
            return Err(OwnRulesError::ClientV6(self.client_v6));
        }
        Ok(())
    }

    /// The lifetime in slots of one interval.
    pub fn lifetime_slots(&self) -> u64 {
        self.lifetime.as_secs() / self.interval.as_secs().max(1)
    }

    /// The slot at a time since 1970.
    pub fn slot_at(&self, wall: Duration) -> u64 {
        wall.as_secs() / self.interval.as_secs().max(1)
    }

    /// The number that stands for the service and the prefixes' lengths: bits of a `BLAKE2s` digest.
    fn number(&self) -> u64 {
        let mut hash = Blake2s256::new_with_prefix([self.client_v4, self.client_v6]);
        if let Some(service) = &self.service {
            hash.update(&service.0);
        }
        let digest = hash.finalize();
        let bytes = digest.first_chunk().copied().unwrap_or_default();
        u64::from_le_bytes(bytes) >> (u64::BITS - OwnCookies::SERVICE_BITS)
    }

    /// Returns a digest of the rules that hosts must share to take each other's cookies.
    pub fn digest(&self) -> String {
        format!("{:014x}/{}", self.number(), self.lifetime_slots())
    }

    /// As the data path holds them, without secrets and slots.
    pub(crate) fn to_map(&self) -> OwnCookies {
        let mut name = [0; OwnCookies::MAX_NAME];
        if let Some(service) = &self.service {
            name[..service.0.len()].copy_from_slice(service.0.as_bytes());
        }
        OwnCookies {
            interval: u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX),
            lifetime: self.lifetime_slots(),
            clients: PrefixMask::new(self.client_v4, self.client_v6),
            service: self.number(),
            named: u64::from(self.service.is_some()),
            name,
            issues: 1,
            ..OwnCookies::OFF
        }
    }

    /// The rules among what is in force.
    pub fn of(map: &OwnCookies) -> Self {
        let name: Vec<u8> = map
            .name
            .iter()
            .copied()
            .take_while(|byte| *byte != 0)
            .collect();
        let interval = Duration::from_nanos(map.interval);
        Self {
            interval,
            lifetime: interval * u32::try_from(map.lifetime).unwrap_or(0),
            client_v4: map.clients.v4_len(),
            client_v6: map.clients.v6_len(),
            service: String::from_utf8(name)
                .ok()
                .and_then(|name| name.parse().ok()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_read_back() {
        let rules = OwnCookieRules {
            client_v4: 28,
            client_v6: 64,
            service: Some("www.example-1".parse().unwrap()),
            ..OwnCookieRules::default()
        };
        for rules in [rules, OwnCookieRules::default()] {
            rules.check().unwrap();
            assert_eq!(OwnCookieRules::of(&rules.to_map()), rules);
        }
    }

    #[test]
    fn what_cannot_be_kept_is_refused() {
        let base = OwnCookieRules::default;
        let seconds = Duration::from_secs;
        for (rules, says) in [
            (
                OwnCookieRules {
                    interval: seconds(9),
                    ..base()
                },
                "interval of 9s",
            ),
            (
                OwnCookieRules {
                    lifetime: seconds(86_401),
                    ..base()
                },
                "1 to 100 whole intervals",
            ),
            (
                OwnCookieRules {
                    lifetime: seconds(101 * 86_400),
                    ..base()
                },
                "1 to 100 whole intervals",
            ),
            (
                OwnCookieRules {
                    lifetime: seconds(0),
                    ..base()
                },
                "1 to 100 whole intervals",
            ),
            (
                OwnCookieRules {
                    client_v4: 7,
                    ..base()
                },
                "client-prefix-v4 of 7",
            ),
            (
                OwnCookieRules {
                    client_v6: 63,
                    ..base()
                },
                "client-prefix-v6 of 63",
            ),
        ] {
            let told = rules.check().unwrap_err().to_string();
            assert!(told.contains(says), "{told}");
        }
        for name in ["", "a b", "\u{e9}", &"x".repeat(65)] {
            assert!(name.parse::<CookieService>().is_err(), "{name}");
        }
    }
}
