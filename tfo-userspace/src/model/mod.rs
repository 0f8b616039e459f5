//! Values that people write and maps hold, with their text form: no system call, no file.
//!
//! Imports `tfo_common` and other crates alone; every other folder may import it.

mod decap;
mod edge;
mod guard;
mod key_pair;
mod listener_name;
mod metrics;
mod netns_pattern;
mod own_cookies;
mod policy;
mod port_guard;
mod prefix;
mod rate;
mod settings;
mod summary;

pub(crate) use decap::DecapWords;
pub use decap::{Decap, Tunnel};
pub use edge::{ChallengeSecret, EdgeGuard, EdgeService};
pub use guard::{Guard, PortState};
pub(crate) use key_pair::random_key;
pub use key_pair::{Fingerprint, KeyPair, KeyTextError};
pub(crate) use listener_name::listener_name;
pub use metrics::{ListenAddress, ListenAddressError, MAX_METRIC_PORTS};
pub use netns_pattern::NetnsPattern;
pub use own_cookies::{
    CookieService, OwnCookieRing, OwnCookieRules, OwnRulesError, exact as exact_time,
};
pub use policy::{LimitedSources, Lists, OnceMemory, Policy, PortPolicy};
pub use port_guard::PortGuard;
pub use prefix::Prefix;
pub use rate::{format_rate, parse_rate};
pub use settings::{AttachMode, Mirror, ModeChoice, Settings, SourceLimits};
pub use summary::{FastOpenSummary, Share, growth};

#[cfg(test)]
pub(crate) mod testing {
    use tfo_common::fastopen::Key;

    use super::KeyPair;

    pub(crate) fn key(n: u32) -> Key {
        Key::from_groups([n, 0, 0, 1])
    }

    pub(crate) fn pair(primary: u32, backup: Option<u32>) -> KeyPair {
        KeyPair {
            primary: key(primary),
            backup: backup.map(key),
        }
    }
}
