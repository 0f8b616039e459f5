//! Random policies.

use std::{
    net::{Ipv4Addr, Ipv6Addr},
    time::Duration,
};

use tfo_common::{
    policy::{Action, Class, Limit, once::OnceBy},
    rate::Rate,
};
use tfo_userspace::model::{LimitedSources, Lists, OnceMemory, Policy, PortPolicy, Prefix};

/// A random policy; may have combinations that the configuration rejects. Prefixes are in the clients' networks,
/// 10.78.0.0/16 and `fd78::/64`, whose addresses a batch uses in ascending order.
pub(super) fn policy(random: &mut fastrand::Rng) -> Policy {
    let mut prefixes = || {
        let count = random.usize(..3);
        (0..count).map(|_| prefix(random)).collect::<Vec<_>>()
    };
    let [allow, mut deny] = [prefixes(), prefixes()];
    deny.retain(|prefix| !allow.contains(prefix));
    Policy {
        sources: LimitedSources {
            max: [1, 16, 65_536][random.usize(..3)],
            v4: [0, 8, 24, 29, 32][random.usize(..5)],
            v6: [0, 64, 125, 128][random.usize(..4)],
        },
        default: port(random),
        ports: [].into(),
        lists: Lists { allow, deny },
        once: OnceMemory::default(),
    }
}

fn prefix(random: &mut fastrand::Rng) -> Prefix {
    let number = random.u16(..);
    let [a, b] = number.to_be_bytes();
    if random.bool() {
        let len = random.u8(17..=32);
        let address = u32::from(Ipv4Addr::new(10, 78, a, b)) & (u32::MAX << (32 - len));
        Prefix {
            address: Ipv4Addr::from(address).into(),
            len,
        }
    } else {
        let len = random.u8(113..=128);
        let address = Ipv6Addr::new(0xfd78, 0, 0, 0, 0, 0, 0, number);
        let address = u128::from(address) & (u128::MAX << (128 - len));
        Prefix {
            address: Ipv6Addr::from(address).into(),
            len,
        }
    }
}

fn port(random: &mut fastrand::Rng) -> PortPolicy {
    let mut action = || Action::ALL[random.usize(..Action::ALL.len())];
    let mut rule = PortPolicy {
        actions: Class::ALL.map(|_| action()),
        denied: action(),
        ..PortPolicy::default()
    };
    // Most rules pass most classes.
    for action in &mut rule.actions {
        if random.bool() {
            *action = Action::Pass;
        }
    }
    rule.no_cookie = [Action::Pass, Action::Drop][random.usize(..2)];
    rule.once_by = OnceBy::ALL[random.usize(..2)];
    rule.dry_run = random.u8(..8) == 0;
    rule.withhold = Duration::from_secs(3600 * u64::from(random.u8(..4) == 0));
    rule.limits = Class::ALL.map(|_| Limit {
        source: rate(random),
        port: rate(random),
    });
    rule
}

fn rate(random: &mut fastrand::Rng) -> Rate {
    if random.u8(..3) > 0 {
        return Rate::UNLIMITED;
    }
    Rate {
        per_second: [1, 100, 10_000][random.usize(..3)],
        burst: random.u32(1..20),
    }
}
