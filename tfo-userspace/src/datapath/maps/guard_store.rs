//! The guard's rules and states by port and by service behind this host, and the secrets of its challenges.

use std::{collections::BTreeMap, time::Duration};

use aya::{
    Ebpf,
    maps::{Array, HashMap, LpmTrie, Map, MapData, MapError},
};
use tfo_common::{
    abi::{GUARD, GUARD_EDGES, GUARD_PORTS, GUARD_SECRETS, SWITCHES},
    fastopen::Key,
    guard::{
        GuardHead, GuardPort, SECRETS,
        edge::{EdgeKey, EdgePort},
        secret_index,
    },
    switches::Switches,
};
use zeroize::Zeroizing;

use super::{
    edge_entry::{edge_entry, edge_guard, edge_key, edge_service, host_listener},
    guard_clock::{Stale, clock_offset, nanoseconds, slot_shift},
    port_state::{next, paused},
    switch_store::SwitchStore,
};
use crate::{
    datapath::error::DatapathError,
    kernel::{routes, sysctl, window},
    model::{ChallengeSecret, EdgeService, Guard, PortGuard, PortState},
};

/// The guard in force and its state.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardState {
    /// The rules in force.
    pub guard: Guard,
    /// By port, then by service behind this host; port 0 stands for all ports of this host without a rule of their own.
    pub ports: Vec<PortState>,
    /// The window scale that the host advertised when the guard was last brought up to date.
    pub window_scale: u8,
    /// The least MSS that a route advertised then, in bytes; 0 where none has one of its own.
    pub mss: u32,
    /// The change since then for which the guard has to be brought up to date.
    pub stale: Option<Stale>,
    /// The number of the present time slot: a new secret is due in each, by
    /// [`NamespaceGuard::refresh`](crate::datapath::NamespaceGuard::refresh).
    pub slot: u64,
}

/// The entries of `GUARD_PORTS` and `GUARD_EDGES`.
pub(crate) struct GuardEntries {
    ports: BTreeMap<u32, GuardPort>,
    edges: BTreeMap<EdgeService, EdgePort>,
}

/// The maps `GUARD`, `GUARD_PORTS`, `GUARD_EDGES` and `GUARD_SECRETS`, and the guard's switches.
pub(crate) struct GuardStore {
    switches: SwitchStore,
    head: Array<MapData, GuardHead>,
    ports: HashMap<MapData, u32, GuardPort>,
    edges: LpmTrie<MapData, EdgeKey, EdgePort>,
    secrets: Array<MapData, Key>,
}

impl GuardStore {
    /// Takes the maps of an object that is not pinned.
    pub(crate) fn take(ebpf: &mut Ebpf) -> Result<Self, DatapathError> {
        let switches = ebpf.map(SWITCHES).ok_or(DatapathError::Missing(SWITCHES))?;
        Self::of(SwitchStore::of(switches)?, |name| {
            ebpf.take_map(name).ok_or(DatapathError::Missing(name))
        })
    }

    pub(crate) fn of(
        switches: SwitchStore,
        mut map: impl FnMut(&'static str) -> Result<Map, DatapathError>,
    ) -> Result<Self, DatapathError> {
        Ok(Self {
            switches,
            head: map(GUARD)?.try_into().map_err(DatapathError::map(GUARD))?,
            ports: map(GUARD_PORTS)?
                .try_into()
                .map_err(DatapathError::map(GUARD_PORTS))?,
            edges: map(GUARD_EDGES)?
                .try_into()
                .map_err(DatapathError::map(GUARD_EDGES))?,
            secrets: map(GUARD_SECRETS)?
                .try_into()
                .map_err(DatapathError::map(GUARD_SECRETS))?,
        })
    }

    /// There is a rule.
    fn is_armed(&self) -> Result<bool, DatapathError> {
        Ok(self.switches.get()?.has(Switches::GUARD))
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
        if !self.is_armed()? {
            return Ok(None);
        }
        let head = self.head()?;
        let (ports, edges) = (self.states()?, self.edge_states()?);
        self.guard(&head, &ports, &edges).map(Some)
    }

    /// The guard of these entries.
    fn guard(
        &self,
        head: &GuardHead,
        ports: &BTreeMap<u32, GuardPort>,
        edges: &BTreeMap<EdgeService, EdgePort>,
    ) -> Result<Guard, DatapathError> {
        let mut guard = Guard {
            replies: head.replies,
            proven: head.proven,
            ..Guard::default()
        };
        for (port, state) in ports {
            guard.insert(*port, PortGuard::of_rule(&state.rule));
        }
        for (service, entry) in edges {
            guard.edges.insert(*service, edge_guard(entry));
        }
        if head.is_shared() {
            let secret = self.secrets.get(&0, 0);
            let secret = secret.map_err(DatapathError::map(GUARD_SECRETS))?;
            guard.secret = Some(ChallengeSecret::new(secret));
        }
        Ok(guard)
    }

    /// The entries of `GUARD_PORTS`, by the map's key.
    pub(crate) fn states(&self) -> Result<BTreeMap<u32, GuardPort>, DatapathError> {
        let entries: Result<_, MapError> = self.ports.iter().collect();
        entries.map_err(DatapathError::map(GUARD_PORTS))
    }

    /// The entries of `GUARD_EDGES`.
    fn edge_states(&self) -> Result<BTreeMap<EdgeService, EdgePort>, DatapathError> {
        let entries = self.edges.iter().map(|entry| {
            let (key, value) = entry?;
            Ok((edge_service(&key), value))
        });
        let entries: Result<_, MapError> = entries.collect();
        entries.map_err(DatapathError::map(GUARD_EDGES))
    }

    /// Puts a guard, or none, in force. A port that is guarded before and after is so throughout.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub(crate) fn set(&mut self, guard: Option<&Guard>) -> Result<(), DatapathError> {
        let before = self.entries()?;
        self.set_after(&before, guard)
    }

    /// As [`Self::set`], after [`Self::pause`]; `before` are the entries from before that.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub(crate) fn set_after(
        &mut self,
        before: &GuardEntries,
        guard: Option<&Guard>,
    ) -> Result<(), DatapathError> {
        let none = Guard::default();
        let guard = guard.unwrap_or(&none);
        self.set_secrets(guard.secret.as_ref())?;
        self.set_head(guard)?;
        if self.is_armed()? {
            // The rules before stay in sight until all of the new ones are.
            self.switches
                .change(|switches| switches.replaced(0, armed(guard)))?;
        }
        let now = nanoseconds();
        self.set_ports(guard, &before.ports, now)?;
        self.set_edges(guard, &before.edges, now)?;
        self.switches
            .change(|switches| switches.replaced(Switches::GUARD, armed(guard)))
    }

    fn set_head(&mut self, guard: &Guard) -> Result<(), DatapathError> {
        let head = GuardHead {
            slot_shift: slot_shift(),
            window_scale: window::scale().into(),
            mss: routes::least_mss(),
            replies: guard.replies,
            proven: guard.proven,
            clock_offset: guard.secret.as_ref().map_or(0, |_| clock_offset()),
            strict: sysctl::filters_sources().into(),
        };
        let set = self.head.set(0, head, 0);
        set.map_err(DatapathError::map(GUARD))
    }

    /// All entries as they are.
    pub(crate) fn entries(&self) -> Result<GuardEntries, DatapathError> {
        Ok(GuardEntries {
            ports: self.states()?,
            edges: self.edge_states()?,
        })
    }

    fn put_port(&mut self, port: u32, state: GuardPort) -> Result<(), DatapathError> {
        let put = self.ports.insert(port, state, 0);
        put.map_err(DatapathError::map(GUARD_PORTS))
    }

    fn put_edge(&mut self, service: &EdgeService, entry: EdgePort) -> Result<(), DatapathError> {
        let put = self.edges.insert(&edge_key(service), entry, 0);
        put.map_err(DatapathError::map(GUARD_EDGES))
    }

    /// Has none of these challenge until they are set again or resumed.
    pub(crate) fn pause(&mut self, entries: &GuardEntries) -> Result<(), DatapathError> {
        self.put(entries, paused)
    }

    /// Has them challenge as before.
    pub(crate) fn resume(&mut self, entries: &GuardEntries) -> Result<(), DatapathError> {
        self.put(entries, |port| *port)
    }

    fn put(
        &mut self,
        entries: &GuardEntries,
        state: fn(&GuardPort) -> GuardPort,
    ) -> Result<(), DatapathError> {
        for (port, before) in &entries.ports {
            self.put_port(*port, state(before))?;
        }
        for (service, before) in &entries.edges {
            let entry = EdgePort {
                port: state(&before.port),
                ..*before
            };
            self.put_edge(service, entry)?;
        }
        Ok(())
    }

    /// A port of this host was challenged at within the last `time`.
    pub(crate) fn has_challenged(&self, time: Duration) -> Result<bool, DatapathError> {
        // More than the steps in which the data path notes the time.
        const STEP: Duration = Duration::from_millis(100);
        let time = u64::try_from((time + STEP).as_nanos()).unwrap_or(u64::MAX);
        let since = nanoseconds().saturating_sub(time);
        let states = self.states()?;
        let last = states.values().map(|state| state.challenged).max();
        Ok(last.is_some_and(|last| last > since))
    }

    /// Random secrets stay as long as there is a guard with such.
    fn set_secrets(&mut self, shared: Option<&ChallengeSecret>) -> Result<(), DatapathError> {
        let all = 0..SECRETS as u32;
        match shared {
            Some(secret) => all.into_iter().try_for_each(|index| {
                let set = self.secrets.set(index, secret.key(), 0);
                set.map_err(DatapathError::map(GUARD_SECRETS))
            }),
            None if !self.is_armed()? || self.head()?.is_shared() => {
                all.into_iter().try_for_each(|index| self.renew(index))
            }
            None => Ok(()),
        }
    }

    fn set_edges(
        &mut self,
        guard: &Guard,
        before: &BTreeMap<EdgeService, EdgePort>,
        now: u64,
    ) -> Result<(), DatapathError> {
        let listener = host_listener();
        for (service, edge) in &guard.edges {
            let port = before.get(service).map(|entry| &entry.port);
            let entry = edge_entry(edge, next(port, &edge.rule, now), listener);
            self.put_edge(service, entry)?;
        }
        for service in before.keys().filter(|key| !guard.edges.contains_key(key)) {
            self.edges
                .remove(&edge_key(service))
                .map_err(DatapathError::map(GUARD_EDGES))?;
        }
        Ok(())
    }

    fn set_ports(
        &mut self,
        guard: &Guard,
        before: &BTreeMap<u32, GuardPort>,
        now: u64,
    ) -> Result<(), DatapathError> {
        let rules: BTreeMap<_, _> = guard.rules().collect();
        // Clients that were challenged under a rule that comes or goes may answer under the one that holds then.
        let challenged = before.values().map(|port| port.challenged).max();
        for (port, rule) in &rules {
            let state = GuardPort {
                challenged: challenged.unwrap_or_default(),
                ..next(before.get(port), rule, now)
            };
            self.put_port(*port, state)?;
        }
        for port in before.keys().filter(|port| !rules.contains_key(port)) {
            self.ports
                .remove(port)
                .map_err(DatapathError::map(GUARD_PORTS))?;
        }
        Ok(())
    }

    /// Replaces the secret of the slot after the next, or follows the wall clock if other hosts have the secret, too. Follows
    /// the sysctls of TCP and the routes' MSS. Due once in every time slot, and when the wall clock was set.
    ///
    /// # Errors
    ///
    /// [`DatapathError`] where the kernel refuses it.
    pub(crate) fn refresh(&mut self) -> Result<(), DatapathError> {
        let before = self.head()?;
        let mut head = GuardHead {
            window_scale: window::scale().into(),
            mss: routes::least_mss(),
            strict: sysctl::filters_sources().into(),
            ..before
        };
        if Stale::of(&head) == Some(Stale::Clock) {
            head.clock_offset = clock_offset();
        }
        if head != before {
            self.head
                .set(0, head, 0)
                .map_err(DatapathError::map(GUARD))?;
        }
        if head.is_shared() {
            self.refresh_terms()
        } else {
            self.renew(secret_index(head.slot(nanoseconds()) + 2))
        }
    }

    /// Updates the terms that challenges for services behind this host state, after a change of
    /// this host's sysctls.
    fn refresh_terms(&mut self) -> Result<(), DatapathError> {
        let listener = host_listener();
        for (service, before) in self.edge_states()? {
            let entry = edge_entry(&edge_guard(&before), before.port, listener);
            if entry.terms != before.terms {
                self.put_edge(&service, entry)?;
            }
        }
        Ok(())
    }

    /// The guard in force and its state; `None` where no port has a rule.
    pub(crate) fn state(&self) -> Result<Option<GuardState>, DatapathError> {
        if !self.is_armed()? {
            return Ok(None);
        }
        let (now, head) = (nanoseconds(), self.head()?);
        let (ports, edges) = (self.states()?, self.edge_states()?);
        let guard = self.guard(&head, &ports, &edges)?;
        let ports = ports
            .iter()
            .map(|(port, state)| PortState::of(*port, state, now));
        let edges = edges.iter().map(|(service, entry)| PortState {
            vip: Some(service.vip),
            ..PortState::of(service.port.into(), &entry.port, now)
        });
        Ok(Some(GuardState {
            guard,
            ports: ports.chain(edges).collect(),
            window_scale: head.window_scale as u8,
            mss: head.mss,
            stale: Stale::of(&head),
            slot: head.slot(now),
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

/// The switches that are on with `guard`.
pub(crate) fn armed(guard: &Guard) -> u32 {
    Switches::bit_if(guard.is_for_host(), Switches::GUARD_HOST)
        | Switches::bit_if(guard.default.is_some(), Switches::GUARD_REST)
        | Switches::bit_if(!guard.edges.is_empty(), Switches::GUARD_EDGE)
}
