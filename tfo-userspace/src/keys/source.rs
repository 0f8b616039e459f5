//! The trait that every source of keys implements.

use std::time::Duration;

use tfo_common::fastopen::Key;

use super::schedule::KeyPlan;
use crate::{kernel::clock::Now, model::KeyPair};

/// A source of keys. [`super::Keeper`] asks it about twice a second which keys are to be in force.
pub trait KeySource {
    /// `random`, `secret`, `file`, `etcd` or `kernel`.
    fn name(&self) -> &'static str;

    /// Takes in what changed outside since the last call, such as a file.
    ///
    /// # Errors
    ///
    /// One line for the log. The source then goes on with what it had.
    fn refresh(&mut self) -> Result<(), String> {
        Ok(())
    }

    /// The keys to be in force at `now`; `None` to leave them as they are. `kernel` is the kernel's pair.
    ///
    /// # Errors
    ///
    /// One line for the log. Nothing changes then.
    fn plan(&self, now: Now, kernel: Option<&KeyPair>) -> Result<Option<KeyPlan>, String>;

    /// Called after `plan` came into force.
    fn installed(&mut self, _plan: &KeyPlan, _now: Now) {}

    /// The time of the next change, by [`Now::boot`]; `None` where no clock decides.
    fn next_change(&self, _now: Now) -> Option<Duration> {
        None
    }

    /// The processes whose changes of the kernel's keys the source accepts as its own.
    fn authority(&self) -> Authority {
        Authority::Source
    }

    /// Goes on from `plan`, which somebody else put in force. `false` where the source has a plan of its own, which
    /// stays the next one to be installed.
    fn adopt(&mut self, _plan: &KeyPlan, _now: Now) -> bool {
        false
    }

    /// Called after every look at the keys: the kernel's pair as far as it is known, and what went wrong.
    fn observe(&self, _kernel: Option<&KeyPair>, _error: Option<&str>) {}
}

/// The processes whose changes of the kernel's keys are not foreign to [`super::Keeper`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Authority {
    /// The source alone.
    Source,
    /// Any `tfo` process, such as `tfo keys rotate`.
    Tfo,
    /// Any process that writes `net.ipv4.tcp_fastopen_key`.
    Anyone,
}

/// The state from which a source starts.
#[derive(Clone, Default)]
pub struct SourceStart {
    /// The keys in force, where the kernel has any.
    pub(super) in_force: Option<KeyPlan>,
    /// The time at which the primary key became primary, by [`Now::boot`].
    pub(super) since: Duration,
    /// The primary key, where clients may hold cookies that a controller answered for.
    pub(super) last_primary: Option<Key>,
    /// The present time.
    pub(super) now: Now,
}
