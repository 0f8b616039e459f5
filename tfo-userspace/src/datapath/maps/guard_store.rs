//! The guard's rules and states by port, and the secrets of its challenges.

use std::collections::BTreeMap;

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use tfo_common::{
    abi::{GUARD, GUARD_PORTS, GUARD_SECRETS},
    fastopen::Key,
    guard::{GuardHead, GuardMode, GuardPort, SECRETS, SLOT_SHIFT, secret_index},
};
use zeroize::Zeroizing;

use crate::{
    datapath::error::DatapathError,
    kernel::{clock::monotonic_coarse, routes, window},
    model::{Guard, PortGuard, PortState},
};

/// The guard in force and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardState {
    /// The rules in force.
    pub guard: Guard,
    /// By port; port 0 stands for all ports without a rule of their own.
    pub ports: Vec<PortState>,
    /// The number of the present time slot: a new secret is due in each, by
    /// [`NamespaceGuard::refresh`](crate::datapath::NamespaceGuard::refresh).
    pub slot: u64,
}

/// The maps `GUARD`, `GUARD_PORTS` and `GUARD_SECRETS`.
pub(crate) struct GuardStore {
    head: Array<MapData, GuardHead>,
    ports: HashMap<MapData, u32, GuardPort>,
    secrets: Array<MapData, Key>,
}

impl GuardStore {
    /// Takes the maps of an object that is not pinned.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Self::of(|name| ebpf.take_map(name).ok_or(DatapathError::Missing(name)))
    }

    pub(crate) fn of(
        mut map: impl FnMut(&'static str) -> Result<Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            head: map(GUARD)?.try_into().map_err(DatapathError::map(GUARD))?,
            ports: map(GUARD_PORTS)?
                .try_into()
                .map_err(DatapathError::map(GUARD_PORTS))?,
            secrets: map(GUARD_SECRETS)?
                .try_into()
                .map_err(DatapathError::map(GUARD_SECRETS))?,
        })
    }

    /// Some port has a rule.
    pub(crate) fn is_armed(&self) -> Result<bool, DatapathError> {
        Ok(self.head()?.armed != 0)
    }

    fn head(&self) -> Result<GuardHead, DatapathError> {
        self.head.get(&0, 0).map_err(DatapathError::map(GUARD))
    }

    /// The guard in force; `None` where no port has a rule.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where a map cannot be read.
    pub(crate) fn get(&self) -> Result<Option<Guard>, DatapathError> {
        let head = self.head()?;
        if head.armed == 0 {
            return Ok(None);
        }
        let mut guard = Guard {
            replies: head.replies,
            proven: head.proven,
            ..Guard::default()
        };
        for (port, state) in self.states()? {
            guard.insert(port, PortGuard::of_rule(&state.rule));
        }
        Ok(Some(guard))
    }

    /// The entries of `GUARD_PORTS`, by the map's key.
    pub(crate) fn states(&self) -> Result<BTreeMap<u32, GuardPort>, DatapathError> {
        let entries: Result<_, MapError> = self.ports.iter().collect();
        entries.map_err(DatapathError::map(GUARD_PORTS))
    }

    /// Puts a guard, or none, in force. A port that is guarded before and after is so throughout.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub(crate) fn set(&mut self, guard: Option<&Guard>) -> Result<(), DatapathError> {
        let none = Guard::default();
        let rules: BTreeMap<_, _> = guard.unwrap_or(&none).rules().collect();
        let mut head = self.head()?;
        if head.armed == 0 {
            (0..SECRETS as u32).try_for_each(|index| self.renew(index))?;
        }
        let now = nanoseconds();
        let before = self.states()?;
        // Clients that were challenged under a rule that comes or goes may answer under the one that holds then.
        let challenged = before.values().map(|port| port.challenged).max();
        for (port, rule) in &rules {
            let state = GuardPort {
                challenged: challenged.unwrap_or_default(),
                ..next(before.get(port), rule, now)
            };
            self.ports
                .insert(port, state, 0)
                .map_err(DatapathError::map(GUARD_PORTS))?;
        }
        for port in before.keys().filter(|port| !rules.contains_key(port)) {
            self.ports
                .remove(port)
                .map_err(DatapathError::map(GUARD_PORTS))?;
        }
        let guard = guard.unwrap_or(&none);
        head = GuardHead {
            armed: u32::from(!rules.is_empty()),
            slot_shift: slot_shift(),
            window_scale: window::scale().into(),
            mss: routes::least_mss(),
            replies: guard.replies,
            proven: guard.proven,
        };
        self.head.set(0, head, 0).map_err(DatapathError::map(GUARD))
    }

    /// Replaces the secret of the slot after the next, and follows `net.ipv4.tcp_rmem` and the routes' MSS. Due once in every time
    /// slot.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub(crate) fn refresh(&mut self) -> Result<(), DatapathError> {
        let mut head = self.head()?;
        let (scale, mss) = (u32::from(window::scale()), routes::least_mss());
        if (head.window_scale, head.mss) != (scale, mss) {
            (head.window_scale, head.mss) = (scale, mss);
            self.head
                .set(0, head, 0)
                .map_err(DatapathError::map(GUARD))?;
        }
        self.renew(secret_index(head.slot(nanoseconds()) + 2))
    }

    /// The guard in force and its state; `None` where no port has a rule.
    pub(crate) fn state(&self) -> Result<Option<GuardState>, DatapathError> {
        let Some(guard) = self.get()? else {
            return Ok(None);
        };
        let now = nanoseconds();
        let ports = self.states()?;
        let ports = ports
            .iter()
            .map(|(port, state)| PortState::of(*port, state, now));
        Ok(Some(GuardState {
            guard,
            ports: ports.collect(),
            slot: self.head()?.slot(now),
        }))
    }

    fn renew(&mut self, index: u32) -> Result<(), DatapathError> {
        let mut bytes = Zeroizing::new([0; Key::LEN]);
        getrandom::fill(bytes.as_mut()).map_err(|error| DatapathError::Io {
            path: "getrandom(2)".into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        let secret = Zeroizing::new(Key::from_bytes(*bytes));
        self.secrets
            .set(index, *secret, 0)
            .map_err(DatapathError::map(GUARD_SECRETS))
    }
}

/// The clock of the guard in the data path: `CLOCK_MONOTONIC` as of the last tick.
pub(crate) fn nanoseconds() -> u64 {
    u64::try_from(monotonic_coarse().as_nanos()).unwrap_or(u64::MAX)
}

/// The length of a time slot is 2 to the power of this, in nanoseconds.
#[cfg(not(feature = "test-hooks"))]
const fn slot_shift() -> u32 {
    SLOT_SHIFT
}

/// As above, but `TFO_TEST_GUARD_SLOT_SHIFT` has precedence.
#[cfg(feature = "test-hooks")]
fn slot_shift() -> u32 {
    let set = std::env::var("TFO_TEST_GUARD_SLOT_SHIFT").ok();
    set.and_then(|shift| shift.parse().ok())
        .unwrap_or(SLOT_SHIFT)
}

/// A port's state once `rule` comes into force at `now`.
fn next(before: Option<&GuardPort>, rule: &PortGuard, now: u64) -> GuardPort {
    let before = before.copied().unwrap_or_default();
    let on = before.is_on(now);
    let rule_before = GuardMode::from_number(before.rule.mode);
    let quiet = now.saturating_add(rule.rule().quiet);
    let until = match rule.mode {
        GuardMode::On => u64::MAX,
        GuardMode::Off => before.until.min(now),
        // The data path ends it where the port is not flooded.
        GuardMode::Auto if rule_before == GuardMode::On => quiet,
        GuardMode::Auto => before.until,
    };
    let switches_on = rule.mode == GuardMode::On && !on;
    GuardPort {
        rule: rule.rule(),
        until,
        since: if switches_on { now } else { before.since },
        bucket: before.bucket,
        switches: before.switches + u64::from(switches_on),
        ..before
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn rule(mode: GuardMode) -> PortGuard {
        PortGuard {
            mode,
            quiet: Duration::from_secs(10),
            ..PortGuard::default()
        }
    }

    #[test]
    fn a_port_that_is_guarded_stays_so() {
        let on = next(None, &rule(GuardMode::On), NOW);
        assert!(on.is_on(u64::MAX - 1) && on.since == NOW && on.switches == 1);
        let again = next(Some(&on), &rule(GuardMode::On), NOW + 5);
        assert!(again == on);
        let auto = next(Some(&on), &rule(GuardMode::Auto), NOW + 5);
        assert!(auto.is_on(NOW + 9_000_000_000) && !auto.is_on(NOW + 11_000_000_000));
        let off = next(Some(&on), &rule(GuardMode::Off), NOW + 5);
        assert!(!off.is_on(NOW + 5) && off.until == NOW + 5, "{off:?}");
        assert_eq!(next(None, &rule(GuardMode::Off), NOW).until, 0);
        assert_eq!(next(None, &rule(GuardMode::Auto), NOW).until, 0);
    }
}
