//! Transitions of ports between guarded and not guarded, from two readings of their states.

use std::{collections::BTreeMap, time::Duration};

use crate::model::{PortState, Prefix};

/// A transition of a port between two readings.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Switch {
    /// The port became guarded.
    On,
    /// The port is no longer guarded.
    Off {
        /// The time for which it was guarded.
        after: Duration,
    },
}

impl Switch {
    /// A line for logs. `port` is the state after the transition.
    pub fn text(&self, port: &PortState) -> String {
        let name = match port.key() {
            (None, 0) => "ports without a rule of their own".to_owned(),
            (None, port) => format!("port {port}"),
            _ => port.name(),
        };
        match self {
            Self::On => format!("{name}: guarded from now on ({})", port.rule.mode.name()),
            Self::Off { after } => {
                format!("{name}: not guarded any more, after {} s", after.as_secs())
            }
        }
    }
}

/// States of ports by what tells them apart: the addresses behind this host, and the port.
pub type PortStates = BTreeMap<(Option<Prefix>, u16), PortState>;

/// The transitions of all ports between two readings. A port whose rule is gone is no longer guarded.
pub fn changes(before: &PortStates, now: &[PortState]) -> Vec<(PortState, Switch)> {
    let has_rule = |key| now.iter().any(|state| state.key() == key);
    let gone = before.values().filter(|state| !has_rule(state.key()));
    let gone = gone.map(|state| PortState {
        on: false,
        ..*state
    });
    let of = |port: PortState| {
        let switches = switches(before.get(&port.key()), &port);
        switches.into_iter().map(move |switch| (port, switch))
    };
    now.iter().copied().chain(gone).flat_map(of).collect()
}

/// The transitions of one port, oldest first. A port that is read for the first time may have just become guarded.
fn switches(before: Option<&PortState>, now: &PortState) -> Vec<Switch> {
    let (was_on, counted) = before.map_or((false, 0), |it| (it.on, it.switches));
    let again = now.switches > counted;
    let after = |state: &PortState| Switch::Off {
        after: state.since.unwrap_or_default(),
    };
    let mut switches = Vec::new();
    if let Some(before) = before.filter(|_| was_on && again) {
        switches.push(after(before));
    }
    if now.on && (again || !was_on) || before.is_some() && again {
        switches.push(Switch::On);
    }
    if !now.on && before.is_some() && (was_on || again) {
        switches.push(after(now));
    }
    switches
}

#[cfg(test)]
mod tests {
    use tfo_common::guard::GuardMode;

    use super::*;
    use crate::model::PortGuard;

    fn port(on: bool, switches: u64, since: u64) -> PortState {
        PortState {
            vip: None,
            port: 443,
            rule: PortGuard {
                mode: GuardMode::Auto,
                ..PortGuard::default()
            },
            on,
            since: Some(Duration::from_secs(since)),
            switches,
        }
    }

    #[test]
    fn each_switch_is_told_once() {
        let off = |seconds| Switch::Off {
            after: Duration::from_secs(seconds),
        };
        let on = Switch::On;
        let cases: [(Option<PortState>, PortState, &[Switch]); 9] = [
            (None, port(false, 0, 0), &[]),
            // It was so before anyone looked.
            (None, port(false, 3, 9), &[]),
            (None, port(true, 3, 9), &[on]),
            (Some(port(false, 0, 0)), port(true, 1, 0), &[on]),
            (Some(port(true, 1, 5)), port(true, 1, 6), &[]),
            (Some(port(true, 1, 5)), port(false, 1, 7), &[off(7)]),
            // Both between two looks.
            (Some(port(false, 1, 5)), port(false, 2, 1), &[on, off(1)]),
            (Some(port(true, 1, 5)), port(true, 2, 0), &[off(5), on]),
            (
                Some(port(true, 1, 5)),
                port(false, 2, 1),
                &[off(5), on, off(1)],
            ),
        ];
        for (before, now, expected) in cases {
            assert_eq!(
                switches(before.as_ref(), &now),
                expected,
                "{before:?} {now:?}"
            );
        }
        assert_eq!(
            off(7).text(&port(false, 1, 7)),
            "port 443: not guarded any more, after 7 s"
        );
    }

    #[test]
    fn a_rule_that_is_gone_guards_nothing() {
        let other = PortState {
            port: 80,
            ..port(false, 1, 7)
        };
        let guarded = port(true, 1, 7);
        let before = [other, guarded].map(|port| (port.key(), port)).into();
        let off = Switch::Off {
            after: Duration::from_secs(7),
        };
        assert_eq!(changes(&before, &[]), [(port(false, 1, 7), off)]);
        assert_eq!(changes(&before, &[guarded]), []);
        assert_eq!(
            changes(&BTreeMap::new(), &[guarded]),
            [(guarded, Switch::On)]
        );
    }
}
