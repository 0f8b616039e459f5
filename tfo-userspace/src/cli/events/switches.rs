//! Ports that come to be guarded, and that are not any more.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Value, json};
use tfo_userspace::{
    datapath::{DatapathError, Namespace, PortState, monotonic},
    guard::{Switch, switches},
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
    pub(super) fn look(
        &mut self,
        json: bool,
        since_boot: Duration,
    ) -> Result<String, DatapathError> {
        let state = self.namespace.guard()?;
        let ports = state.map(|state| state.ports).unwrap_or_default();
        let wanted = |port: &&PortState| {
            let only = self.only.filter(|_| port.port != 0);
            only.is_none_or(|only| only == port.port)
        };
        let mut text = String::new();
        for port in ports.iter().filter(wanted) {
            for switch in switches(self.ports.get(&port.port), port) {
                let time = time(moment(switch, port), since_boot);
                text += &if json {
                    format!("{}\n", to_json(switch, port, &time))
                } else {
                    format!("{time}  {}\n", switch.text(port))
                };
            }
        }
        self.ports = ports.into_iter().map(|port| (port.port, port)).collect();
        Ok(text)
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
