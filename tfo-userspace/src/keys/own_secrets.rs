//! The ring of the secrets of own cookies. The caller passes clocks and random keys.

use std::time::Duration;

use tfo_common::fastopen::{
    Key,
    own::{OwnCookies, OwnSecretSource, SECRETS},
};

use super::{given_secrets::GivenSecrets, secret::Secret};
use crate::{
    kernel::clock,
    model::{OwnCookieRing, OwnCookieRules, random_key},
};

/// The source of the secrets.
#[derive(Clone, Copy)]
pub enum OwnSecrets<'a> {
    /// Random ones, for this host alone. Those in force are kept as long as cookies of theirs are good.
    Random,
    /// Derived from a secret that the hosts of a service share, and the clock.
    Derived(&'a Secret),
    /// Given by number, by this source. No clock changes them.
    Given(OwnSecretSource, &'a GivenSecrets),
}

impl<'a> OwnSecrets<'a> {
    /// Derived ones where there is a secret.
    pub const fn of(secret: Option<&'a Secret>) -> Self {
        match secret {
            Some(secret) => Self::Derived(secret),
            None => Self::Random,
        }
    }

    /// The source, as [`OwnCookies::source`] has it.
    pub const fn source(self) -> OwnSecretSource {
        match self {
            Self::Random => OwnSecretSource::Random,
            Self::Derived(_) => OwnSecretSource::Secret,
            Self::Given(source, _) => source,
        }
    }
}

/// The rules and secrets for the slot of `wall`, a time by the clock that counts slots, when `CLOCK_MONOTONIC` is `monotonic`. `before` is what is
/// in force. `fresh` makes a random key.
///
/// The ring reaches from the oldest slot whose expired cookies are still known as such to as many slots ahead as there is
/// room for, so that cookies are issued and taken for that long without a controller. A slot without a given secret has a random
/// one, which nobody issues by.
///
/// # Errors
///
/// Those of `fresh`.
fn ring<E>(
    rules: &OwnCookieRules,
    secrets: OwnSecrets<'_>,
    before: Option<&OwnCookies>,
    (wall, monotonic): (Duration, Duration),
    mut fresh: impl FnMut() -> Result<Key, E>,
) -> Result<OwnCookies, E> {
    let mut made = rules.to_map();
    made.source = secrets.source() as u64;
    if let OwnSecrets::Given(_, given) = secrets {
        (made.slot, made.last) = (given.slot, given.last);
        made.since = OwnCookies::NO_CLOCK;
        made.issues = u64::from(given.is_issuing());
    } else {
        made.slot = rules.slot_at(wall);
        let since = monotonic.saturating_sub(into_slot(rules, wall));
        made.since = u64::try_from(since.as_nanos()).unwrap_or(u64::MAX);
        made.last = oldest(&made) + SECRETS as u64 - 1;
    }
    let kept = before.filter(|before| {
        OwnSecretSource::from_number(before.source) == OwnSecretSource::Random
            && before.interval == made.interval
    });
    for slot in oldest(&made)..=made.last {
        let index = slot as usize % SECRETS;
        made.secrets[index] = match (secrets, kept) {
            (OwnSecrets::Derived(secret), _) => {
                secret.own_cookie_secret(slot, rules.interval.as_secs())
            }
            (OwnSecrets::Given(_, given), _) => match given.get(slot) {
                Some(secret) => *secret,
                None => fresh()?,
            },
            (OwnSecrets::Random, Some(before)) if has(before, slot) => before.secrets[index],
            (OwnSecrets::Random, _) => fresh()?,
        };
    }
    Ok(made)
}

/// The oldest slot whose expired cookies are told from others.
const fn oldest(cookies: &OwnCookies) -> u64 {
    cookies.slot.saturating_sub(2 * cookies.lifetime)
}

/// As [`ring`], for this moment, with keys of the kernel's random generator.
///
/// # Errors
///
/// getrandom(2)'s.
pub fn ring_now(
    rules: &OwnCookieRules,
    secrets: OwnSecrets<'_>,
    before: Option<&OwnCookies>,
) -> Result<OwnCookieRing, getrandom::Error> {
    let clocks = clocks(secrets.source());
    ring(rules, secrets, before, clocks, random_key).map(OwnCookieRing::new)
}

/// Returns whether the secrets in force, of a source with a clock, are to be renewed: the clock has
/// gone on to another slot since, or the data path counts another slot than the clock.
pub fn is_due(in_force: &OwnCookies) -> bool {
    is_due_at(
        in_force,
        clocks(OwnSecretSource::from_number(in_force.source)),
    )
}

/// The time for which the data path has secrets; `None` where no clock ends it.
pub fn own_secrets_left(in_force: &OwnCookies) -> Option<Duration> {
    if in_force.since == OwnCookies::NO_CLOCK {
        return None;
    }
    let monotonic = clock::monotonic_coarse();
    let slots = (in_force.last + 1).saturating_sub(in_force.slot);
    let reach = slots.saturating_mul(in_force.interval);
    let end = Duration::from_nanos(in_force.since.saturating_add(reach));
    Some(end.saturating_sub(monotonic))
}

/// The time by which slots are counted, and the data path's clock. Hosts that share secrets have the wall clock in common; random
/// secrets are gone with the system, and do not depend on a clock that is set.
fn clocks(source: OwnSecretSource) -> (Duration, Duration) {
    let slots_by = match source {
        OwnSecretSource::Random => clock::since_boot(),
        _ => clock::since_1970(),
    };
    (slots_by, clock::monotonic_coarse())
}

/// The time since the slot of `wall` began.
fn into_slot(rules: &OwnCookieRules, wall: Duration) -> Duration {
    wall.saturating_sub(rules.interval * u32::try_from(rules.slot_at(wall)).unwrap_or(u32::MAX))
}

/// `cookies` has the secret of `slot`.
fn has(cookies: &OwnCookies, slot: u64) -> bool {
    slot <= cookies.last && slot + SECRETS as u64 > cookies.last
}

/// `cookies` issues and takes by the given secrets.
pub fn has_given(cookies: &OwnCookies, given: &GivenSecrets) -> bool {
    let same = |slot: u64| {
        let secret = &cookies.secrets[slot as usize % SECRETS];
        given.get(slot).is_none_or(|given| given == secret)
    };
    (cookies.slot, cookies.last, cookies.issues != 0)
        == (given.slot, given.last, given.is_issuing())
        && (oldest(cookies)..=cookies.last).all(same)
}

fn is_due_at(in_force: &OwnCookies, (wall, monotonic): (Duration, Duration)) -> bool {
    let rules = OwnCookieRules::of(in_force);
    let now = u64::try_from(monotonic.as_nanos()).unwrap_or(u64::MAX);
    let slot = rules.slot_at(wall);
    slot != in_force.slot || slot != in_force.slot_at(now)
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;

    use tfo_common::{fastopen::own::OwnCookie, wire::addresses::Addresses};

    use super::*;

    const DAY: Duration = Duration::from_secs(86_400);

    struct Host {
        next: u64,
        in_force: Option<OwnCookies>,
        rules: OwnCookieRules,
    }

    impl Host {
        fn new(next: u64) -> Self {
            Self {
                next,
                in_force: None,
                rules: OwnCookieRules::default(),
            }
        }

        fn make(
            &mut self,
            secrets: OwnSecrets<'_>,
            wall: Duration,
            monotonic: Duration,
        ) -> OwnCookies {
            let fresh = || {
                self.next += 1;
                Ok::<_, Infallible>(Key::from_words(self.next, 0))
            };
            let clocks = (wall, monotonic);
            let Ok(made) = ring(&self.rules, secrets, self.in_force.as_ref(), clocks, fresh);
            self.in_force = Some(made);
            made
        }
    }

    fn nanoseconds(time: Duration) -> u64 {
        u64::try_from(time.as_nanos()).unwrap()
    }

    /// Whatever the restarts and however long no controller ran, what was issued is good for its lifetime.
    #[test]
    fn no_live_cookie_is_lost_to_renewals() {
        let addresses = Addresses::v4([10, 0, 0, 1], [10, 0, 0, 2]);
        let mut host = Host::new(1);
        let start = DAY * 20_000 + DAY / 3;
        let mut issued = Vec::new();
        // Days at which a controller runs.
        for day in [0_u32, 1, 2, 3, 9, 10, 11, 30, 31, 45, 200, 201, 214] {
            let (wall, monotonic) = (start + DAY * day, DAY * day);
            let made = host.make(OwnSecrets::Random, wall, monotonic);
            let now = nanoseconds(monotonic);
            assert!(!is_due_at(&made, (wall, monotonic)));
            assert!(is_due_at(&made, (wall + DAY, monotonic + DAY)));
            assert!(is_due_at(&made, (wall + DAY, monotonic)));
            issued.push((day, made.issue(&addresses, now).unwrap()));
            for (when, cookie) in &issued {
                let expected = match day - when {
                    0..=1 => OwnCookie::Young,
                    2..=7 => OwnCookie::Lasting,
                    8..=14 => OwnCookie::Old,
                    15..=28 => OwnCookie::Expired,
                    _ => OwnCookie::Foreign,
                };
                assert_eq!(made.age(*cookie, &addresses, now), expected, "{when} {day}");
            }
        }
    }

    #[test]
    fn hosts_with_one_secret_take_each_others_cookies() {
        let secret = Secret::parse(&[7; 32]).unwrap();
        let addresses = Addresses::v4([10, 0, 0, 1], [10, 0, 0, 2]);
        let wall = DAY * 20_000;
        let mut hosts = [Host::new(1), Host::new(1000)];
        // Clocks that differ, about the turn of a slot, and systems that started at different times.
        for skew in [0, 1, 9] {
            let skew = Duration::from_secs(skew);
            let first = hosts[0].make(OwnSecrets::Derived(&secret), wall, DAY);
            let second = hosts[1].make(
                OwnSecrets::Derived(&secret),
                wall.saturating_sub(skew),
                DAY * 3,
            );
            let made = [(first, DAY), (second, DAY * 3)];
            for (issuer, at) in &made {
                let cookie = issuer.issue(&addresses, nanoseconds(*at)).unwrap();
                for (taker, at) in &made {
                    let age = taker.age(cookie, &addresses, nanoseconds(*at));
                    assert_eq!(age, OwnCookie::Young, "{skew:?}");
                }
            }
        }
        let random = Host::new(1).make(OwnSecrets::Random, wall, DAY);
        let cookie = random.issue(&addresses, nanoseconds(DAY)).unwrap();
        let other = hosts[0].make(OwnSecrets::Derived(&secret), wall, DAY);
        assert_eq!(
            other.age(cookie, &addresses, nanoseconds(DAY)),
            OwnCookie::Foreign
        );
    }

    /// Hosts in neighbouring steps take each other's cookies, and nobody takes those of a secret that is not given.
    #[test]
    fn given_secrets_are_taken_before_they_issue() {
        let given = |slot: u64, last: u64, issues| GivenSecrets {
            slot,
            last,
            secrets: (3..=last)
                .map(|number| Key::from_words(number, 9))
                .collect(),
            issues,
        };
        let addresses = Addresses::v4([10, 0, 0, 1], [10, 0, 0, 2]);
        let wall = DAY * 20_000;
        let mut host = Host::new(1);
        let mut make = |given: &GivenSecrets| {
            let secrets = OwnSecrets::Given(OwnSecretSource::Etcd, given);
            let made = host.make(secrets, wall, DAY);
            assert!(has_given(&made, given));
            made
        };
        let (steady, staged, active) = (given(4, 4, true), given(4, 5, true), given(5, 5, true));
        let hosts = [&steady, &staged, &active].map(&mut make);
        for (issuer, takers) in [(0, &hosts[..2]), (1, &hosts[..]), (2, &hosts[1..])] {
            let cookie = hosts[issuer].issue(&addresses, 1).unwrap();
            for taker in takers {
                assert_eq!(
                    taker.age(cookie, &addresses, 1 << 60),
                    OwnCookie::Young,
                    "{issuer}"
                );
            }
        }
        let early = hosts[2].issue(&addresses, 1).unwrap();
        assert_eq!(hosts[0].age(early, &addresses, 1), OwnCookie::Foreign);
        assert!(!has_given(&hosts[0], &staged) && !has_given(&hosts[1], &active));
        // Revoked: what was before is no secret any more.
        let revoked = GivenSecrets {
            slot: 6,
            last: 6,
            secrets: vec![Key::from_words(6, 9)],
            issues: true,
        };
        let after = make(&revoked);
        assert_eq!(after.age(early, &addresses, 1), OwnCookie::Foreign);
        // Without the secret of its slot, and where others do not take them yet, a host issues none.
        for silent in [given(2, 3, true), given(4, 4, false)] {
            assert!(make(&silent).issue(&addresses, 1).is_none());
        }
    }
}
