//! What the guard goes by: which ports, when, and the secrets of its challenges.

use std::{collections::BTreeMap, env, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, HashMap, Map, MapData, MapError},
};
use tfo_common::{
    cookie::Key,
    guard::{GuardHead, GuardPort, Mode, SECRETS, SLOT_SHIFT, secret_index},
    maps::{GUARD, GUARD_PORTS, GUARD_SECRETS},
};
use zeroize::Zeroizing;

use crate::{
    datapath::DatapathError,
    kernel::{clock::monotonic_coarse, window},
    model::{Guard, PortGuard},
};

/// The maps of the guard.
pub struct GuardStore {
    head: Array<MapData, GuardHead>,
    ports: HashMap<MapData, u32, GuardPort>,
    secrets: Array<MapData, Key>,
}

impl GuardStore {
    /// Of a program that is not pinned.
    pub(in crate::datapath) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        Self::of(|name| ebpf.take_map(name).ok_or(DatapathError::Missing(name)))
    }

    pub(super) fn of(
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

    /// Whether any port has a rule.
    pub(in crate::datapath) fn is_armed(&self) -> Result<bool, DatapathError> {
        Ok(self.head()?.armed != 0)
    }

    fn head(&self) -> Result<GuardHead, DatapathError> {
        self.head.get(&0, 0).map_err(DatapathError::map(GUARD))
    }

    /// What it goes by; `None` where no port has a rule.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where it cannot be read.
    pub fn get(&self) -> Result<Option<Guard>, DatapathError> {
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

    /// The rules and states of ports, by the port as the map has it.
    pub(super) fn states(&self) -> Result<BTreeMap<u32, GuardPort>, DatapathError> {
        let entries: Result<_, MapError> = self.ports.iter().collect();
        entries.map_err(DatapathError::map(GUARD_PORTS))
    }

    /// Has the guard go by this, or by nothing. Ports that stay guarded are so without a break.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn set(&mut self, guard: Option<&Guard>) -> Result<(), DatapathError> {
        let none = Guard::default();
        let rules: BTreeMap<_, _> = guard.unwrap_or(&none).rules().collect();
        let mut head = self.head()?;
        if head.armed == 0 {
            (0..SECRETS as u32).try_for_each(|index| self.renew(index))?;
        }
        let now = nanoseconds();
        let before = self.states()?;
        for (port, rule) in &rules {
            let state = next(before.get(port), rule, now);
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
            reserved: 0,
            replies: guard.replies,
            proven: guard.proven,
        };
        self.head.set(0, head, 0).map_err(DatapathError::map(GUARD))
    }

    /// Replaces the secret that comes into use after the next one, and follows the host's settings. Whoever looks
    /// after the guard does so in every slot of time.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub fn refresh(&mut self) -> Result<(), DatapathError> {
        let mut head = self.head()?;
        let scale = u32::from(window::scale());
        if head.window_scale != scale {
            head.window_scale = scale;
            self.head
                .set(0, head, 0)
                .map_err(DatapathError::map(GUARD))?;
        }
        self.renew(secret_index(head.slot(nanoseconds()) + 2))
    }

    /// How long a slot of time is.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where it cannot be read.
    pub fn slot_len(&self) -> Result<Duration, DatapathError> {
        Ok(Duration::from_nanos(self.head()?.validity() / 2))
    }

    /// The present slot of time.
    pub(super) fn slot(&self) -> Result<u64, DatapathError> {
        Ok(self.head()?.slot(nanoseconds()))
    }

    fn renew(&mut self, index: u32) -> Result<(), DatapathError> {
        let mut bytes = Zeroizing::new([0; Key::LEN]);
        getrandom::fill(bytes.as_mut()).map_err(|error| DatapathError::Io {
            path: "the kernel's random numbers".into(),
            source: std::io::Error::other(error.to_string()),
        })?;
        let secret = Zeroizing::new(Key::from_bytes(*bytes));
        self.secrets
            .set(index, *secret, 0)
            .map_err(DatapathError::map(GUARD_SECRETS))
    }
}

/// The time of the guard in the data path: as of the last tick.
pub(super) fn nanoseconds() -> u64 {
    u64::try_from(monotonic_coarse().as_nanos()).unwrap_or(u64::MAX)
}

/// For tests alone: a slot of time is 2 to the power of that many nanoseconds.
const SHIFT: &str = "TFO_TEST_GUARD_SLOT_SHIFT";

fn slot_shift() -> u32 {
    let set = env::var(SHIFT).ok();
    set.and_then(|shift| shift.parse().ok())
        .unwrap_or(SLOT_SHIFT)
}

/// A port's state under a rule that comes at `now`.
fn next(before: Option<&GuardPort>, rule: &PortGuard, now: u64) -> GuardPort {
    let before = before.copied().unwrap_or_default();
    let on = before.is_on(now);
    let rule_before = Mode::from_number(before.rule.mode);
    let quiet = now.saturating_add(rule.rule().quiet);
    let until = match rule.mode {
        Mode::On => u64::MAX,
        Mode::Off => before.until.min(now),
        // It goes off by itself if it is not needed.
        Mode::Auto if rule_before == Mode::On => quiet,
        Mode::Auto => before.until,
    };
    let switches_on = rule.mode == Mode::On && !on;
    GuardPort {
        rule: rule.rule(),
        until,
        since: if switches_on { now } else { before.since },
        bucket: before.bucket,
        switches: before.switches + u64::from(switches_on),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: u64 = 1_000_000_000_000;

    fn rule(mode: Mode) -> PortGuard {
        PortGuard {
            mode,
            quiet: Duration::from_secs(10),
            ..PortGuard::default()
        }
    }

    #[test]
    fn a_port_that_is_guarded_stays_so() {
        let on = next(None, &rule(Mode::On), NOW);
        assert!(on.is_on(u64::MAX - 1) && on.since == NOW && on.switches == 1);
        let again = next(Some(&on), &rule(Mode::On), NOW + 5);
        assert!(again == on);
        let auto = next(Some(&on), &rule(Mode::Auto), NOW + 5);
        assert!(auto.is_on(NOW + 9_000_000_000) && !auto.is_on(NOW + 11_000_000_000));
        let off = next(Some(&on), &rule(Mode::Off), NOW + 5);
        assert!(!off.is_on(NOW + 5) && off.until == NOW + 5, "{off:?}");
        assert_eq!(next(None, &rule(Mode::Off), NOW).until, 0);
        assert_eq!(next(None, &rule(Mode::Auto), NOW).until, 0);
    }
}
