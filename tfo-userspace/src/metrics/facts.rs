//! The facts of one network namespace.

use std::{
    collections::BTreeMap,
    fmt,
    time::{Duration, Instant},
};

use tfo_common::{abi::sizes::Sizes, counters::Counters};

use crate::{
    datapath::{
        AttachedInterface, Drift, GuardState, Lost, Memory, Namespace, PolicySummary, Snapshot,
    },
    farm::FarmReport,
    kernel::{
        netstat::TcpExt,
        sysctl::{self, Mode},
    },
    keys::KeyReport,
    model::{AttachMode, Fingerprint, KeyPair, Mirror},
};

/// A larger map of sources is not read: its entries would take megabytes.
const MAX_SOURCES: u32 = 65_536;

/// The parts of [`NamespaceFacts`]. Each is read on its own, so that one failure leaves the others.
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

/// The namespace, interfaces and ports to read.
#[derive(Clone, Debug, Default)]
pub struct ScrapeTarget {
    /// The label of the namespace; "" for the controller's own.
    pub netns: String,
    /// Interfaces that the program is to run on. One that lacks it, or does not exist, is reported as not attached.
    pub interfaces: Vec<String>,
    /// Ports whose counters are reported one by one.
    pub ports: Vec<u16>,
}

/// The facts of an interface.
#[derive(Clone, Debug, Default)]
pub struct InterfaceFacts {
    /// Its name.
    pub name: String,
    /// The attach mode; `None` where the program is not attached.
    pub mode: Option<AttachMode>,
    /// Socket lookup: exact, or by the packet alone.
    pub mirror: Option<Mirror>,
    /// The guard's programs are attached.
    pub guarded: bool,
    /// The counters.
    pub counters: Option<Snapshot>,
    /// The histogram of data in SYNs.
    pub sizes: Option<Sizes>,
    /// Lost events.
    pub lost: Option<Lost>,
    /// Sources in the map, and those of them that request cookies without using any; `None` also where the map is
    /// too large to read.
    pub sources: Option<[usize; 2]>,
    /// Entries that the map of sources has room for.
    pub max_sources: Option<u32>,
}

/// The facts of all namespaces of a service.
#[derive(Clone, Debug, Default)]
pub struct ServiceFacts {
    /// While the service starts: the namespaces in which it has tried to attach, and all of them.
    pub starting: Option<[usize; 2]>,
    /// One of each namespace that this process reads, or that nobody can read.
    pub namespaces: Vec<NamespaceFacts>,
    /// The facts that other processes read of their namespaces.
    pub others: Vec<OtherFacts>,
    /// The numbers of namespaces.
    pub counts: NamespaceCounts,
}

/// Facts of namespaces that another process has read.
#[derive(Clone, Debug, Default)]
pub struct OtherFacts {
    /// The output of [`render_namespaces`](super::render_namespaces) for them.
    pub metrics: String,
    /// The error of [`health`](super::health()).
    pub wrong: Option<String>,
}

/// The numbers of a service's namespaces.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NamespaceCounts {
    /// With an attached interface.
    pub attached: usize,
    /// Without: it does not exist, or its interfaces do not.
    pub waiting: usize,
    /// More than the service takes.
    pub left_out: usize,
}

impl NamespaceCounts {
    /// The numbers, with their states as a label has them.
    pub(super) const fn by_state(self) -> [(&'static str, usize); 3] {
        [
            ("attached", self.attached),
            ("waiting", self.waiting),
            ("left_out", self.left_out),
        ]
    }
}

/// The facts of a namespace. A part that could not be read is `None` or empty, and has an entry in `errors`.
#[derive(Clone, Debug, Default)]
pub struct NamespaceFacts {
    /// The target of the reading.
    pub target: ScrapeTarget,
    /// Interfaces with pins, and those of the target.
    pub interfaces: Vec<InterfaceFacts>,
    /// The sum of all interfaces' counters compared with the kernel's.
    pub drift: Option<Drift>,
    /// The kernel's counters since the namespace was created.
    pub kernel: Option<TcpExt>,
    /// Why interfaces of the target are not attached, by name. Only the service can fill this in.
    pub not_attached: BTreeMap<String, String>,
    /// Kernel memory of the maps, by map.
    pub memory: Memory,
    /// `net.ipv4.tcp_fastopen`.
    pub fast_open: Option<Mode>,
    /// The time since the keys last changed, where it is known.
    pub keys_age: Option<Duration>,
    /// `true` if the data path accepts every key of the kernel; `None` if nothing is attached.
    pub keys_agree: Option<bool>,
    /// The kernel's keys, the primary one first.
    pub fingerprints: Vec<Fingerprint>,
    /// The report of the keeper. Only the process that rotates the keys can fill this in.
    pub keys: Option<KeyReport>,
    /// The policy in force; the default where there is none.
    pub policy: Option<PolicySummary>,
    /// Sources from which cookies are withheld.
    pub withheld: Option<usize>,
    /// Why the configured policy is not in force. Only the service can fill this in.
    pub policy_refused: Option<String>,
    /// The guard in force; `None` where there is none.
    pub guard: Option<GuardState>,
    /// Why the configured guard is not in force. Only the service can fill this in.
    pub guard_refused: Option<String>,
    /// Why the configured own cookies are not in force. Only the service can fill this in.
    pub own_cookies_refused: Option<String>,
    /// Why listeners that the configuration names have no Fast Open.
    pub listeners_refused: Option<String>,
    /// The report of the farm. Only the service can fill this in.
    pub farm: Option<FarmReport>,
    /// Why a part could not be read, by the part's name.
    pub errors: BTreeMap<&'static str, String>,
    /// The duration of the reading.
    pub took: Duration,
}

/// Reads the facts of the calling thread's network namespace. A part that fails has an entry in
/// [`NamespaceFacts::errors`].
pub async fn read(namespace: &Namespace, target: &ScrapeTarget) -> NamespaceFacts {
    let start = Instant::now();
    let mut facts = NamespaceFacts {
        target: target.clone(),
        ..NamespaceFacts::default()
    };
    let attached = namespace.interfaces().await;
    let attached = facts.part("interfaces", attached).unwrap_or_default();
    facts.read_counters(namespace, &attached);
    for (at, interface) in attached.iter().enumerate() {
        let sources = namespace.counters_of(interface.index).sources(MAX_SOURCES);
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
    let policy = facts.part("policy", namespace.policy().summary());
    facts.policy = policy.map(Option::unwrap_or_default);
    facts.withheld = match facts.policy {
        Some(policy) if policy.withholds => facts.part("policy", namespace.policy().withheld()),
        policy => policy.map(|_| 0),
    };
    facts.guard = facts.part("guard", namespace.guard().state()).flatten();
    facts.took = start.elapsed();
    facts
}

/// The facts of a namespace that cannot be read at all, because it is gone or its thread has ended.
pub fn unreadable(target: &ScrapeTarget, error: &impl fmt::Display) -> NamespaceFacts {
    NamespaceFacts {
        target: target.clone(),
        errors: PARTS.map(|part| (part, error.to_string())).into(),
        ..NamespaceFacts::default()
    }
}

impl NamespaceFacts {
    /// The value of a part; an error goes to `errors`.
    fn part<T, E: fmt::Display>(&mut self, part: &'static str, value: Result<T, E>) -> Option<T> {
        debug_assert!(PARTS.contains(&part));
        value
            .map_err(|error| self.errors.insert(part, error.to_string()))
            .ok()
    }

    /// Reads the counters, ours before the kernel's and with nothing in between: a SYN that arrives between the two
    /// readings shows as drift.
    fn read_counters(&mut self, namespace: &Namespace, attached: &[AttachedInterface]) {
        let mut sum = Some(Snapshot::default());
        for interface in attached {
            let index = interface.index;
            let counters = self.part("counters", namespace.counters_of(index).read());
            sum = sum.zip(counters.clone()).map(|(mut sum, counters)| {
                sum += counters;
                sum
            });
            self.interfaces.push(InterfaceFacts {
                name: interface.label(),
                mode: interface.mode,
                mirror: Some(interface.mirror),
                guarded: namespace.guard().is_on(index),
                counters,
                ..InterfaceFacts::default()
            });
        }
        self.kernel = self.part("kernel", TcpExt::read());
        for (at, interface) in attached.iter().enumerate() {
            let counters = namespace.counters_of(interface.index);
            let sizes = self.part("counters", counters.sizes());
            let lost = self.part("counters", counters.events_lost());
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

    /// Adds the target's interfaces that have no pins.
    pub(super) fn add_missing(&mut self) {
        if self.errors.contains_key("interfaces") {
            return;
        }
        for name in &self.target.interfaces {
            if !self.interfaces.iter().any(|each| each.name == *name) {
                self.interfaces.push(InterfaceFacts {
                    name: name.clone(),
                    ..InterfaceFacts::default()
                });
            }
        }
    }

    fn read_keys(&mut self, namespace: &Namespace) {
        self.keys_age = self.part("keys", namespace.keys().age()).flatten();
        let kernel = self.part("keys", sysctl::key()).flatten();
        let accepted = self.part("keys", namespace.keys().accepted()).flatten();
        if let Some((kernel, accepted)) = kernel.as_ref().zip(accepted) {
            let accepts = |key| accepted.keys().contains(&key);
            self.keys_agree = Some(kernel.keys().all(accepts));
        }
        let keys = kernel.iter().flat_map(KeyPair::keys);
        self.fingerprints = keys.map(|key| Fingerprint::of(&key)).collect();
    }

    /// The sum of all interfaces' counters, as far as they could be read.
    pub fn counters(&self) -> Counters {
        let counters = self.interfaces.iter().filter_map(|it| it.counters.as_ref());
        counters.map(|it| it.total).sum()
    }
}
