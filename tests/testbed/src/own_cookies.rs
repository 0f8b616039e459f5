//! Own cookies for programs that are not attached: rules and secrets that no clock changes.

use std::net::IpAddr;

use tfo_common::{
    fastopen::{
        Cookie, Key,
        own::{OwnCookies, SECRETS},
    },
    wire::addresses::{Addresses, PrefixMask},
};

/// Slots for which a cookie is good.
pub const LIFETIME: u64 = 14;
/// The slot of all times.
pub const SLOT: u64 = 1000;

/// Rules with the kernel's binding, and known secrets.
pub fn fixed() -> OwnCookies {
    let mut secrets = [Key::ZERO; SECRETS];
    for (index, secret) in secrets.iter_mut().enumerate() {
        *secret = Key::from_words(index as u64, 0x7fc0_0c1e);
    }
    OwnCookies {
        slot: SLOT,
        // Centuries.
        interval: u64::MAX,
        lifetime: LIFETIME,
        last: SLOT + LIFETIME,
        clients: PrefixMask::new(32, 128),
        issues: 1,
        secrets,
        ..OwnCookies::OFF
    }
}

/// A client's and a server's address, as the program has them.
///
/// # Panics
///
/// They are of two families.
pub fn addresses(client: IpAddr, server: IpAddr) -> Addresses {
    match (client, server) {
        (IpAddr::V4(client), IpAddr::V4(server)) => Addresses::v4(client.octets(), server.octets()),
        (IpAddr::V6(client), IpAddr::V6(server)) => Addresses::v6(client.octets(), server.octets()),
        _ => panic!("{client} and {server} are of two families"),
    }
}

/// The cookie that was issued `slots` ago by [`fixed`].
///
/// # Panics
///
/// There was none.
pub fn issued(addresses: &Addresses, slots: u64) -> Cookie {
    let then = OwnCookies {
        slot: SLOT - slots,
        ..fixed()
    };
    then.issue(addresses, 0).expect("there is a secret")
}
