//! `tfo status`.

use std::{collections::BTreeMap, time::Duration};

use serde_json::{Map, Value, json};
use tfo_common::counters::Counter;
use tfo_userspace::{
    datapath::{
        self, AttachedInterface, Build, ControllerLock, Drift, GuardState, HookReason, Memory,
        Namespace, PolicySummary, Stray,
    },
    farm::{self, FarmReport},
    kernel::{
        link,
        mounts::ShortLived,
        sysctl::{self, Mode},
    },
    model::{Fingerprint, OwnCookieRules, PortState},
};

use super::{
    keys::fingerprints,
    output::{counted, print, print_json, table, warn_if_off},
    time::age,
};

struct Status {
    interfaces: Vec<AttachedInterface>,
    /// Why they run in their modes, by index.
    reasons: BTreeMap<u32, HookReason>,
    /// Interfaces of other layout versions: the version's name, and the interface's index.
    older: Vec<(String, u32)>,
    /// The names of all interfaces here, by index.
    names: BTreeMap<u32, String>,
    /// Programs that came with interfaces from other namespaces.
    strays: Vec<Stray>,
    keys: Vec<Fingerprint>,
    keys_age: Option<Duration>,
    /// The counters, and those of them that drift; `None` if nothing is attached.
    drift: Option<(Drift, Vec<Counter>)>,
    memory: Memory,
    policy: Option<PolicySummary>,
    /// The rules of own cookies; `None` where there are none.
    own_cookies: Option<OwnCookieRules>,
    guard: Option<GuardState>,
    /// Labels of the interfaces that have the guard's programs.
    guarded: Vec<String>,
    /// The process id of `tfo run`.
    controller: Option<u32>,
    farm: Option<FarmReport>,
    mode: Mode,
}

fn nothing_attached() -> String {
    let nothing = "not attached to any interface here\n".to_owned();
    let Some(found) = ShortLived::find() else {
        return nothing;
    };
    format!("{nothing}{found}: {}\n", found.remedy("status"))
}

impl Status {
    async fn read() -> anyhow::Result<Self> {
        let namespace = Namespace::current()?;
        let own_cookies = namespace.own_cookies().get()?;
        let accepted = namespace.keys().accepted()?;
        let keys = accepted.map_or(Vec::new(), |set| fingerprints(set.keys().iter().copied()));
        let controller = ControllerLock::of(&namespace);
        let interfaces = namespace.interfaces().await?;
        let guarded = interfaces
            .iter()
            .filter(|it| namespace.guard().is_on(it.index));
        let drift = if interfaces.is_empty() {
            None
        } else {
            Some(namespace.lasting_drift().await?)
        };
        Ok(Self {
            own_cookies: own_cookies.as_deref().map(OwnCookieRules::of),
            guard: namespace.guard().state()?,
            guarded: guarded.map(AttachedInterface::label).collect(),
            reasons: datapath::hook_reasons(&namespace, &interfaces).await?,
            interfaces,
            older: namespace.other_layouts()?,
            names: link::list()
                .await?
                .into_iter()
                .map(|it| (it.index, it.name))
                .collect(),
            strays: namespace.strays().await?,
            keys,
            keys_age: namespace.keys().age()?,
            drift,
            memory: namespace.memory()?,
            policy: namespace.policy().summary()?,
            controller,
            farm: farm::published(&namespace),
            mode: sysctl::mode()?,
        })
    }

    /// Why an interface runs in its mode, where tfo chose it.
    fn reason(&self, interface: &AttachedInterface) -> Option<&HookReason> {
        let reason = self.reasons.get(&interface.index);
        reason.filter(|reason| **reason != HookReason::Asked)
    }

    fn json(&self) -> Value {
        let interfaces = self.interfaces.iter().map(|interface| {
            json!({
                "name": interface.name,
                "index": interface.index,
                "program_id": interface.program_id,
                "mode": interface.mode,
                "mode_asked_for": interface.choice,
                "mode_reason": self.reason(interface).map(ToString::to_string),
                "moved": interface.moved,
                "replaced": interface.replaced,
                "mirror": interface.mirror,
                "decap": interface.decap.tunnels().collect::<Vec<_>>(),
                "decap_from": interface.decap.sources().collect::<Vec<_>>(),
                "build": interface.build,
                "attached_seconds": interface.attached.map(|age| age.as_secs()),
            })
        });
        let strays = self.strays.iter().map(|stray| {
            json!({
                "name": stray.interface,
                "index": stray.index,
                "program_id": stray.program_id,
                "mode": stray.mode,
            })
        });
        json!({
            "interfaces": interfaces.collect::<Vec<_>>(),
            "other_layouts": self.older,
            "from_other_namespaces": strays.collect::<Vec<_>>(),
            "controller": { "pid": self.controller },
            "farm": self.farm,
            "build": Build::own(),
            "keys": self.keys,
            "keys_age_seconds": self.keys_age.map(|age| age.as_secs()),
            "drift": self.drift.as_ref().map(drift_json),
            "memory": { "maps": self.memory, "total": self.memory.values().sum::<u64>() },
            "policy": self.policy.as_ref().map(policy_json),
            "own_cookies": self.own_cookies.is_some(),
            "guard": self.guard.as_ref().map(|guard| guard_json(guard, &self.guarded)),
            "tcp_fastopen": self.mode.0,
            "listeners_may_use_fast_open": self.mode.server(),
        })
    }

    fn text(&self, verbose: bool) -> String {
        let mut text = if self.interfaces.is_empty() {
            nothing_attached()
        } else {
            self.attached()
        };
        for interface in &self.interfaces {
            if let (Some(mode), Some(reason)) = (interface.mode, self.reason(interface)) {
                text += &format!("{}: {mode} mode: {reason}\n", interface.label());
            }
        }
        for interface in self.interfaces.iter().filter(|it| it.decap.is_on()) {
            text += &format!("{}: reads through {}\n", interface.label(), interface.decap);
        }
        for (version, index) in &self.older {
            text += &match self.names.get(index) {
                Some(name) => format!(
                    "{name}: attached by a tfo of layout {version}: `tfo attach --replace {name}` upgrades it\n"
                ),
                None => format!(
                    "interface {index} (gone): attached by a tfo of layout {version}: `tfo detach --all` removes its pins\n"
                ),
            };
        }
        for stray in &self.strays {
            text += &format!(
                "{0}: program {1} ({2}) came with it from another network namespace, still running: `tfo attach --replace {0}` replaces it, `tfo detach {0}` removes it\n",
                stray.interface, stray.program_id, stray.mode
            );
        }
        if let Some(pid) = self.controller {
            text += &format!("controller: `tfo run`, process {pid}\n");
        }
        if let Some(farm) = &self.farm {
            text += &format!("farm: {farm}\n");
        }
        text += &format!("net.ipv4.tcp_fastopen = {}\n", self.mode.0);
        if verbose && !self.memory.is_empty() {
            text += &self.maps();
        }
        text
    }

    /// Interfaces, keys, drift, policy, own cookies and guard.
    fn attached(&self) -> String {
        let header = [
            "interface",
            "mode",
            "mirror",
            "program",
            "attached",
            "build",
        ];
        let mut rows = vec![Vec::from(header.map(str::to_owned))];
        rows.extend(self.interfaces.iter().map(row));
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let age = self
            .keys_age
            .map_or(String::new(), |it| format!(", changed {} ago", age(it)));
        let drift = self.drift.as_ref();
        format!(
            "{}keys: {}{age}\n{}{}{}{}",
            table(&rows),
            keys.join(", "),
            drift.map_or(String::new(), |(drift, lasting)| describe_drift(
                drift, lasting
            )),
            self.policy.as_ref().map_or(String::new(), describe_policy),
            self.own_cookies
                .as_ref()
                .map_or(String::new(), describe_own_cookies),
            self.guard.as_ref().map_or(String::new(), describe_guard),
        )
    }

    /// The memory of the maps, the largest first.
    fn maps(&self) -> String {
        let mut maps: Vec<_> = self.memory.iter().collect();
        maps.sort_by_key(|(_, bytes)| std::cmp::Reverse(**bytes));
        let total = self.memory.values().sum();
        let mut rows = vec![["map", "memory"].map(str::to_owned).to_vec()];
        rows.extend(
            maps.into_iter()
                .map(|(name, bytes)| vec![name.clone(), kib(*bytes)]),
        );
        rows.push(vec!["total".to_owned(), kib(total)]);
        format!("\n{}", table(&rows))
    }
}

pub(super) async fn run(json: bool, verbose: bool) -> anyhow::Result<()> {
    let status = Status::read().await?;
    if json {
        return print_json(&status.json());
    }
    print(&status.text(verbose))?;
    warn_if_off()
}

/// An interface's row of the table.
fn row(interface: &AttachedInterface) -> Vec<String> {
    let mode = interface.mode;
    let attached = interface.attached.filter(|_| mode.is_some());
    vec![
        interface.label(),
        match mode {
            Some(mode) => mode.to_string(),
            None if interface.moved => "moved to another namespace, still running".to_owned(),
            None if interface.replaced => {
                "not attached: a new interface, with the index of an attached one".to_owned()
            }
            None => "not attached any more".to_owned(),
        },
        interface.mirror.to_string(),
        interface.program_id.to_string(),
        attached.map_or("-".to_owned(), |it| format!("{} ago", age(it))),
        match &interface.build {
            Some(build) if *build == Build::own() => build.to_string(),
            Some(build) => format!("{build}, not this one"),
            None => "older".into(),
        },
    ]
}

/// By how much the counters that drift differ from the kernel's, by name.
fn drift_json((drift, lasting): &(Drift, Vec<Counter>)) -> Value {
    drifting(drift, lasting)
        .map(|(counter, by)| (counter.name().to_owned(), by.into()))
        .collect::<Map<_, _>>()
        .into()
}

fn drifting(drift: &Drift, lasting: &[Counter]) -> impl Iterator<Item = (Counter, i64)> {
    let all = Counter::MIRRORED.into_iter().zip(drift.drift());
    all.filter(|(counter, _)| lasting.contains(counter))
}

fn describe_drift(drift: &Drift, lasting: &[Counter]) -> String {
    let drifting = drifting(drift, lasting);
    let drifting: Vec<_> = drifting
        .map(|(counter, by)| format!("{} {by:+}", counter.name()))
        .collect();
    match drifting.as_slice() {
        [] => "drift: none\n".to_owned(),
        some => format!("drift: {} (tfo stats --check)\n", some.join(", ")),
    }
}

fn policy_json(policy: &PolicySummary) -> Value {
    json!({
        "rules": policy.rules,
        "dry_run_rules": policy.dry_run,
        "list_prefixes": policy.prefixes,
    })
}

fn describe_policy(policy: &PolicySummary) -> String {
    let PolicySummary {
        rules,
        dry_run,
        prefixes,
        ..
    } = policy;
    let noun = if *rules == 1 { "rule" } else { "rules" };
    let mut text = format!("policy: {rules} {noun} in force");
    if *dry_run > 0 {
        text += &format!(", {dry_run} as a dry run");
    }
    if *prefixes > 0 {
        text += &format!(", {prefixes} prefixes on the lists");
    }
    text + "\n"
}

fn guard_json(state: &GuardState, guarded: &[String]) -> Value {
    let on = state.ports.iter().filter(|port| port.on);
    let here = on.clone().filter(|port| port.vip.is_none());
    let behind = on.filter(|port| port.vip.is_some());
    json!({
        "rules": state.ports.len(),
        "ports_on": here.clone().map(|port| port.port).filter(|port| *port != 0).collect::<Vec<_>>(),
        "other_ports_on": here.clone().any(|port| port.port == 0),
        "services_on": behind.map(PortState::name).collect::<Vec<_>>(),
        "interfaces": guarded,
    })
}

fn describe_own_cookies(rules: &OwnCookieRules) -> String {
    format!(
        "own cookies: in force for clients of one /{} or /{}\n",
        rules.client_v4, rules.client_v6
    )
}

fn describe_guard(state: &GuardState) -> String {
    let on = state.ports.iter().filter(|port| port.on);
    let on: Vec<_> = on
        .map(|port| {
            format!(
                "{} for {}",
                label(port),
                age(port.since.unwrap_or_default())
            )
        })
        .collect();
    let on = match on.as_slice() {
        [] => "no port is guarded now".to_owned(),
        on => format!("guarded now: {}", on.join(", ")),
    };
    let rules = counted(state.ports.len() as u64, "rule", "rules");
    format!("guard: {rules} in force; {on}\n")
}

fn label(port: &PortState) -> String {
    match port.key() {
        (None, 0) => "all others".to_owned(),
        _ => port.name(),
    }
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
