//! What one network namespace says.

use std::{
    collections::BTreeMap,
    fmt::{self, Write as _},
    time::{Duration, Instant},
};

use tfo_common::{counters::Counters, sizes::Sizes};

use crate::{
    datapath::{
        AttachedInterface, Drift, GuardState, Lost, Memory, Mirror, Namespace, PolicySummary,
        Snapshot,
    },
    farm::FarmReport,
    kernel::{
        netstat::TcpExt,
        sysctl::{self, Mode},
    },
    keys::{Fingerprint, KeyPair, KeyReport},
    model::AttachMode,
};

/// Sources are not read where there may be more: they would take megabytes.
const MOST_SOURCES: u32 = 65_536;

/// The parts of [`NamespaceFacts`] that are read apart, so that one that fails leaves the others.
pub(super) const PARTS: [&str; 10] = [
    "interfaces",
    "counters",
    "kernel",
    "drift",
    "sources",
    "memory",
    "sysctl",
    "keys",
    "policy",
    "guard",
];

/// What is asked of a namespace.
#[derive(Clone, Debug, Default)]
pub struct Watch {
    /// What to call the namespace; "" for the controller's own.
    pub netns: String,
    /// Interfaces that the program is to run on. One that has lost it, or is gone, is told as such.
    pub interfaces: Vec<String>,
    /// Ports whose counters are told one by one.
    pub ports: Vec<u16>,
}

/// What an interface says.
#[derive(Clone, Debug, Default)]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// How the program runs there; `None` where it does not.
    pub mode: Option<AttachMode>,
    /// How closely it follows the kernel.
    pub mirror: Option<Mirror>,
    /// Whether it has the guard's programs.
    pub guarded: bool,
    /// What it counted.
    pub counters: Option<Snapshot>,
    /// How much data SYNs had.
    pub sizes: Option<Sizes>,
    /// Events that were lost.
    pub lost: Option<Lost>,
    /// Sources that are kept, and those of them that ask without using; `None` also where there may be
    /// too many to read.
    pub sources: Option<[usize; 2]>,
    /// Most sources that are kept.
    pub max_sources: Option<u32>,
}

/// What a namespace says. A part that could not be read is `None` or empty, and is in `errors`.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    /// What was asked.
    pub watch: Watch,
    /// Its interfaces: those that have pins, and those that were asked for.
    pub interfaces: Vec<InterfaceFacts>,
    /// The counters of all interfaces beside the kernel's, read at one time.
    pub drift: Option<Drift>,
    /// The kernel's own counters, since the namespace was made.
    pub kernel: Option<TcpExt>,
    /// Kernel memory of the maps.
    pub memory: Memory,
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: Option<Mode>,
    /// How long ago the keys last changed, as far as is known.
    pub keys_age: Option<Duration>,
    /// Whether the data path accepts every key of the kernel's; `None` where nothing is attached.
    pub keys_agree: Option<bool>,
    /// Of the kernel's keys, the primary one first.
    pub fingerprints: Vec<Fingerprint>,
    /// What the process that looks after the keys says of them; whoever is that process puts it here.
    pub keys: Option<KeyReport>,
    /// The policy in force; the default where there is none.
    pub policy: Option<PolicySummary>,
    /// Why the configured policy is not in force; whoever is to put it in force says so here.
    pub policy_refused: Option<String>,
    /// The guard in force; `None` where there is none.
    pub guard: Option<GuardState>,
    /// Why the configured guard is not in force; as above.
    pub guard_refused: Option<String>,
    /// What it says of the farm, where there is one; from whoever asks etcd, too.
    pub farm: Option<FarmReport>,
    /// Why a part could not be read, by the part's name.
    pub errors: BTreeMap<&'static str, String>,
    /// How long all of this took.
    pub took: Duration,
}

/// Asks the calling thread's network namespace. What cannot be read is told as such and stops nothing.
pub async fn read(namespace: &Namespace, watch: &Watch) -> NamespaceFacts {
    let start = Instant::now();
    let mut facts = NamespaceFacts {
        watch: watch.clone(),
        ..NamespaceFacts::default()
    };
    let attached = namespace.interfaces().await;
    let attached = facts.part("interfaces", attached).unwrap_or_default();
    facts.read_counters(namespace, &attached);
    for (at, interface) in attached.iter().enumerate() {
        let sources = namespace.sources_of(interface.index, MOST_SOURCES);
        if let Some((sources, max)) = facts.part("sources", sources) {
            let facts = &mut facts.interfaces[at];
            facts.max_sources = Some(max);
            facts.sources = sources.map(|it| [it.0.len(), it.ask_without_using()]);
        }
    }
    facts.add_missing();
    facts.memory = facts.part("memory", namespace.memory()).unwrap_or_default();
    facts.fast_open = facts.part("sysctl", sysctl::mode());
    facts.read_keys(namespace);
    let policy = facts.part("policy", namespace.policy_summary());
    facts.policy = policy.map(Option::unwrap_or_default);
    facts.guard = facts.part("guard", namespace.guard()).flatten();
    facts.took = start.elapsed();
    facts
}

/// What is told of a namespace that cannot be asked at all, because it is gone or its thread has died.
pub fn unreadable(watch: &Watch, error: &impl fmt::Display) -> NamespaceFacts {
    NamespaceFacts {
        watch: watch.clone(),
        errors: PARTS.map(|part| (part, error.to_string())).into(),
        ..NamespaceFacts::default()
    }
}

impl NamespaceFacts {
    /// The value of a part, or a note of why there is none.
    fn part<T, E: fmt::Display>(&mut self, part: &'static str, value: Result<T, E>) -> Option<T> {
        debug_assert!(PARTS.contains(&part));
        value
            .map_err(|error| self.errors.insert(part, error.to_string()))
            .ok()
    }

    /// All counters in one go, ours before the kernel's: what is counted in between is seen there, not
    /// here, for as short a time as can be.
    fn read_counters(&mut self, namespace: &Namespace, attached: &[AttachedInterface]) {
        let mut sum = Some(Snapshot::default());
        for interface in attached {
            let index = interface.index;
            let counters = self.part("counters", namespace.counters_of(index));
            sum = sum.zip(counters.clone()).map(|(mut sum, counters)| {
                sum += counters;
                sum
            });
            self.interfaces.push(InterfaceFacts {
                name: interface.label(),
                mode: interface.mode,
                mirror: Some(interface.mirror),
                guarded: namespace.has_guard(index),
                counters,
                ..InterfaceFacts::default()
            });
        }
        self.kernel = self.part("kernel", TcpExt::read());
        for (at, interface) in attached.iter().enumerate() {
            let sizes = self.part("counters", namespace.sizes_of(interface.index));
            let lost = self.part("counters", namespace.events_lost_of(interface.index));
            let facts = &mut self.interfaces[at];
            (facts.sizes, facts.lost) = (sizes, lost);
        }
        if attached.is_empty() {
            return;
        }
        let mirrored = self.kernel.as_ref().map(TcpExt::mirrored);
        let mirrored = mirrored.and_then(|it| self.part("kernel", it));
        if let Some((ours, kernel)) = sum.zip(mirrored) {
            self.drift = self.part("drift", namespace.compare(ours, kernel));
        }
    }

    /// Those that were asked for and have no pins.
    fn add_missing(&mut self) {
        if self.errors.contains_key("interfaces") {
            return;
        }
        for name in &self.watch.interfaces {
            if !self.interfaces.iter().any(|each| each.name == *name) {
                self.interfaces.push(InterfaceFacts {
                    name: name.clone(),
                    ..InterfaceFacts::default()
                });
            }
        }
    }

    fn read_keys(&mut self, namespace: &Namespace) {
        self.keys_age = self.part("keys", namespace.keys_age()).flatten();
        let kernel = self.part("keys", sysctl::key()).flatten();
        let store = self.part("keys", namespace.keys()).flatten();
        let accepted = store.and_then(|store| self.part("keys", store.get()));
        if let Some((kernel, accepted)) = kernel.as_ref().zip(accepted) {
            let accepts = |key| accepted.keys().contains(&key);
            self.keys_agree = Some(kernel.keys().all(accepts));
        }
        let keys = kernel.iter().flat_map(KeyPair::keys);
        self.fingerprints = keys.map(|key| Fingerprint::of(&key)).collect();
    }

    /// What all interfaces counted, as far as it could be read.
    pub fn counters(&self) -> Counters {
        let counters = self.interfaces.iter().filter_map(|it| it.counters.as_ref());
        counters.map(|it| it.total).sum()
    }
}

/// Whether all is as it should be.
///
/// # Errors
///
/// What is not, a line each: a part that cannot be read, an interface that has lost its program, keys that
/// could not be changed.
pub fn health(namespaces: &[NamespaceFacts]) -> Result<(), String> {
    let mut wrong = String::new();
    for facts in namespaces {
        let place = match facts.watch.netns.as_str() {
            "" => String::new(),
            name => format!("netns {name}: "),
        };
        let mut line = |text: fmt::Arguments<'_>| {
            // To a String, it cannot fail.
            let _ = writeln!(wrong, "{place}{text}");
        };
        for (part, error) in &facts.errors {
            line(format_args!("{part}: {error}"));
        }
        for interface in facts.interfaces.iter().filter(|it| it.mode.is_none()) {
            line(format_args!(
                "{}: not attached: `tfo attach` it again",
                interface.name
            ));
        }
        if let Some(error) = facts.keys.as_ref().and_then(|it| it.last_error.as_ref()) {
            line(format_args!("keys: {error}"));
        }
        if let Some(error) = &facts.policy_refused {
            line(format_args!("policy not in force: {error}"));
        }
        if let Some(error) = &facts.guard_refused {
            line(format_args!("guard not in force: {error}"));
        }
        if let Some(error) = facts.farm.as_ref().and_then(|it| it.error.as_ref()) {
            line(format_args!("farm: {error}"));
        }
    }
    if wrong.is_empty() { Ok(()) } else { Err(wrong) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn health_names_what_is_wrong() {
        let well = NamespaceFacts::default();
        assert_eq!(health(std::slice::from_ref(&well)), Ok(()));
        let mut ill = NamespaceFacts::default();
        ill.watch.netns = "blue".to_owned();
        ill.watch.interfaces = vec!["eth0".to_owned()];
        ill.add_missing();
        ill.errors.insert("memory", "no".to_owned());
        ill.keys = Some(KeyReport {
            last_error: Some("sysctl is read-only".to_owned()),
            ..KeyReport::default()
        });
        ill.policy_refused = Some("no".to_owned());
        ill.guard_refused = Some("no".to_owned());
        assert_eq!(
            health(&[well, ill]).unwrap_err(),
            "netns blue: memory: no\n\
             netns blue: eth0: not attached: `tfo attach` it again\n\
             netns blue: keys: sysctl is read-only\n\
             netns blue: policy not in force: no\n\
             netns blue: guard not in force: no\n"
        );
    }
}
