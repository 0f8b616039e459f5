//! Ports on which the guard switches on or off.

use std::time::Duration;

use serde_json::{Value, json};
use tfo_userspace::{
    datapath::Namespace,
    guard::{PortStates, Switch, changes},
    kernel::clock::monotonic,
    model::PortState,
};

use crate::cli::time::of_event;

/// Compares the guard's state with that of the last reading.
pub(super) struct Watch<'a> {
    namespace: &'a Namespace,
    /// Reports this port alone, and the default rule.
    only: Option<u16>,
    ports: PortStates,
}

impl<'a> Watch<'a> {
    pub(super) const fn new(namespace: &'a Namespace, only: Option<u16>) -> Self {
        Self {
            namespace,
            only,
            ports: PortStates::new(),
        }
    }

    /// A line for each port that has switched since the last call; in the first call, for each port that is guarded.
    pub(super) fn look(&mut self, json: bool, since_boot: Duration) -> String {
        // While it is being detached, the streams report the error.
        let Ok(state) = self.namespace.guard().state() else {
            return String::new();
        };
        let ports = state.map(|state| state.ports).unwrap_or_default();
        let mut text = String::new();
        for (port, switch) in changes(&self.ports, &ports) {
            // The default rule may be this port's.
            if port.port != 0 && self.only.is_some_and(|only| only != port.port) {
                continue;
            }
            let time = of_event(moment(switch, &port), since_boot);
            text += &if json {
                format!("{}\n", to_json(switch, &port, &time))
            } else {
                format!("{time}  {}\n", switch.text(&port))
            };
        }
        self.ports = ports.into_iter().map(|port| (port.key(), port)).collect();
        text
    }
}

/// The time of the switch, in nanoseconds of the clock of events. For a port that switched off it is the time of
/// this reading.
fn moment(switch: Switch, port: &PortState) -> u64 {
    let ago = match switch {
        Switch::On => port.since.unwrap_or_default(),
        Switch::Off { .. } => Duration::ZERO,
    };
    monotonic().saturating_sub(ago).as_nanos() as u64
}

fn to_json(switch: Switch, port: &PortState, time: &str) -> Value {
    json!({
        "event": "guard",
        "time": time,
        "vip": port.vip.map(|vip| vip.to_string()),
        "port": (port.port != 0).then_some(port.port),
        "mode": port.rule.mode.name(),
        "on": switch == Switch::On,
    })
}
