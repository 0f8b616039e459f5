//! Ports that come to be guarded, and that are not any more.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tfo_userspace::{
    datapath::{Namespace, PortState},
    guard::{Switch, changes},
    kernel::clock::monotonic,
};

use super::time;

/// Looks at the guard again and again.
pub(super) struct Watch<'a> {
    namespace: &'a Namespace,
    /// This port alone, and the rule of ports that have none.
    only: Option<u16>,
    ports: BTreeMap<u16, PortState>,
}

impl<'a> Watch<'a> {
    pub(super) const fn new(namespace: &'a Namespace, only: Option<u16>) -> Self {
        Self {
            namespace,
            only,
            ports: BTreeMap::new(),
        }
    }

    /// What became of the ports since the last look, a line each. At the first one, those that are guarded.
    pub(super) fn look(&mut self, json: bool, since_boot: Duration) -> String {
        // Where it is being detached, the streams say so.
        let Ok(state) = self.namespace.guard().state() else {
            return String::new();
        };
        let ports = state.map(|state| state.ports).unwrap_or_default();
        let mut text = String::new();
        for (port, switch) in changes(&self.ports, &ports) {
            // The rule of all others may be this port's.
            if port.port != 0 && self.only.is_some_and(|only| only != port.port) {
                continue;
            }
            let time = time(moment(switch, &port), since_boot);
            text += &if json {
                format!("{}\n", to_json(switch, &port, &time))
            } else {
                format!("{time}  {}\n", switch.text(&port))
            };
        }
        self.ports = ports.into_iter().map(|port| (port.port, port)).collect();
        text
    }
}

/// When it was, in nanoseconds of the clock of events. That a port is not guarded any more is known from the look
/// at it.
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
        "port": (port.port != 0).then_some(port.port),
        "mode": port.rule.mode.name(),
        "on": switch == Switch::On,
    })
}
