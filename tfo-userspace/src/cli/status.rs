//! `tfo status`.

use std::time::Duration;

use serde_json::{Value, json};
use tfo_userspace::{
    datapath::{
        AttachedInterface, Build, ControllerLock, GuardState, Memory, Namespace, PolicySummary,
        PortState,
    },
    farm::{self, FarmReport},
    kernel::sysctl::{self, Mode},
    keys::Fingerprint,
};

use super::{
    keys::fingerprints,
    output::{print, print_json, table, warn_if_off},
};

/// What there is to say.
struct Status {
    interfaces: Vec<AttachedInterface>,
    /// Those of other layout versions: the version's name, and the interface's index.
    older: Vec<(String, u32)>,
    keys: Vec<Fingerprint>,
    keys_age: Option<Duration>,
    memory: Memory,
    policy: Option<PolicySummary>,
    guard: Option<GuardState>,
    /// The interfaces that have its programs.
    guarded: Vec<String>,
    /// The process that looks after the namespace.
    controller: Option<u32>,
    farm: Option<FarmReport>,
    mode: Mode,
}

impl Status {
    async fn read() -> anyhow::Result<Self> {
        let namespace = Namespace::current()?;
        let accepted = namespace.keys().accepted()?;
        let keys = accepted.map_or(Vec::new(), |set| fingerprints(set.keys().iter().copied()));
        let controller = ControllerLock::of(&namespace);
        let interfaces = namespace.interfaces().await?;
        let guarded = interfaces
            .iter()
            .filter(|it| namespace.guard().is_on(it.index));
        Ok(Self {
            guard: namespace.guard().state()?,
            guarded: guarded.map(AttachedInterface::label).collect(),
            interfaces,
            older: namespace.other_layouts()?,
            keys,
            keys_age: namespace.keys().age()?,
            memory: namespace.memory()?,
            policy: namespace.policy().summary()?,
            controller,
            farm: controller.and_then(|_| farm::published(namespace.cookie())),
            mode: sysctl::mode()?,
        })
    }

    fn json(&self) -> Value {
        let interfaces = self.interfaces.iter().map(|interface| {
            json!({
                "name": interface.name,
                "index": interface.index,
                "program_id": interface.program_id,
                "mode": interface.mode,
                "mirror": interface.mirror,
                "build": interface.build,
            })
        });
        json!({
            "interfaces": interfaces.collect::<Vec<_>>(),
            "other_layouts": self.older,
            "controller": { "pid": self.controller },
            "farm": self.farm,
            "build": Build::own(),
            "keys": self.keys,
            "keys_age_seconds": self.keys_age.map(|age| age.as_secs()),
            "memory": { "maps": self.memory, "total": self.memory.values().sum::<u64>() },
            "policy": self.policy.as_ref().map(policy_json),
            "guard": self.guard.as_ref().map(|guard| guard_json(guard, &self.guarded)),
            "tcp_fastopen": self.mode.0,
            "listeners_may_use_fast_open": self.mode.server(),
        })
    }

    /// What is attached, as text.
    fn attached(&self) -> String {
        if self.interfaces.is_empty() {
            return "not attached to any interface here\n".to_owned();
        }
        let header = ["interface", "mode", "mirror", "program", "build"];
        let mut rows = vec![Vec::from(header.map(str::to_owned))];
        rows.extend(self.interfaces.iter().map(row));
        let keys: Vec<String> = self.keys.iter().map(ToString::to_string).collect();
        let age = self.keys_age.map_or(String::new(), |age| {
            format!(", changed {} s ago", age.as_secs())
        });
        let maps = self.memory.iter();
        let maps: Vec<String> = maps
            .map(|(name, bytes)| format!("{name} {}", kib(*bytes)))
            .collect();
        format!(
            "{}keys: {}{age}\n{}{}kernel memory of the maps: {} ({})\n",
            table(&rows),
            keys.join(", "),
            self.policy.as_ref().map_or(String::new(), describe),
            self.guard.as_ref().map_or(String::new(), describe_guard),
            kib(self.memory.values().sum()),
            maps.join(", ")
        )
    }
}

pub(super) async fn run(json: bool) -> anyhow::Result<()> {
    let status = Status::read().await?;
    if json {
        return print_json(&status.json());
    }
    print(&status.attached())?;
    for (version, index) in &status.older {
        print(&format!(
            "interface {index}: attached by a tfo of layout {version}: `tfo attach --replace` upgrades it\n"
        ))?;
    }
    if let Some(pid) = status.controller {
        print(&format!("controller: `tfo run`, process {pid}\n"))?;
    }
    if let Some(farm) = &status.farm {
        print(&format!("farm: {farm}\n"))?;
    }
    print(&format!("net.ipv4.tcp_fastopen = {}\n", status.mode.0))?;
    warn_if_off()
}

/// An interface's row of the table.
fn row(interface: &AttachedInterface) -> Vec<String> {
    let mode = interface.mode;
    vec![
        interface.label(),
        mode.map_or("not attached any more".to_owned(), |mode| mode.to_string()),
        interface.mirror.to_string(),
        interface.program_id.to_string(),
        match &interface.build {
            Some(build) if *build == Build::own() => build.to_string(),
            Some(build) => format!("{build}, not this one"),
            None => "older".into(),
        },
    ]
}

fn policy_json(policy: &PolicySummary) -> Value {
    json!({
        "rules": policy.rules,
        "dry_run_rules": policy.dry_run,
        "list_prefixes": policy.prefixes,
    })
}

fn describe(policy: &PolicySummary) -> String {
    let PolicySummary {
        rules,
        dry_run,
        prefixes,
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
    json!({
        "rules": state.ports.len(),
        "ports_on": on.clone().map(|port| port.port).filter(|port| *port != 0).collect::<Vec<_>>(),
        "other_ports_on": on.clone().any(|port| port.port == 0),
        "interfaces": guarded,
    })
}

fn describe_guard(state: &GuardState) -> String {
    let rules = state.ports.len();
    let noun = if rules == 1 { "rule" } else { "rules" };
    let on = state.ports.iter().filter(|port| port.on);
    let on: Vec<_> = on
        .map(|port| format!("{} for {}", label(port), seconds(port)))
        .collect();
    let on = match on.as_slice() {
        [] => "no port is guarded now".to_owned(),
        on => format!("guarded now: {}", on.join(", ")),
    };
    format!("guard: {rules} {noun} in force; {on}\n")
}

fn label(port: &PortState) -> String {
    match port.port {
        0 => "all others".to_owned(),
        port => port.to_string(),
    }
}

fn seconds(port: &PortState) -> String {
    format!("{} s", port.since.unwrap_or_default().as_secs())
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
