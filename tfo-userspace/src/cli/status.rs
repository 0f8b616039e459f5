//! `tfo status`.

use serde_json::json;
use tfo_userspace::{
    datapath::{Build, Control, Namespace},
    farm,
    kernel::sysctl,
};

use super::{
    keys::fingerprints,
    output::{print, print_json, table, warn_if_off},
};

pub(super) async fn run(json: bool) -> anyhow::Result<()> {
    let namespace = Namespace::current()?;
    let interfaces = namespace.interfaces().await?;
    let mode = sysctl::mode()?;
    let keys = match namespace.keys()? {
        Some(store) => fingerprints(store.get()?.keys().iter().copied()),
        None => Vec::new(),
    };
    let age = namespace.keys_age()?;
    let memory = namespace.memory()?;
    let total: u64 = memory.values().sum();
    let controller = Control::of(&namespace);
    let farm = controller.and_then(|_| farm::published(namespace.cookie()));
    let older = namespace.other_layouts()?;
    if json {
        let interfaces: Vec<_> = interfaces
            .iter()
            .map(|interface| {
                json!({
                    "name": interface.name,
                    "index": interface.index,
                    "program_id": interface.program_id,
                    "mode": interface.mode,
                    "mirror": interface.mirror,
                    "build": interface.build,
                })
            })
            .collect();
        return print_json(&json!({
            "interfaces": interfaces,
            "other_layouts": older,
            "controller": { "pid": controller },
            "farm": farm,
            "build": Build::own(),
            "keys": keys,
            "keys_age_seconds": age.map(|age| age.as_secs()),
            "memory": { "maps": memory, "total": total },
            "tcp_fastopen": mode.0,
            "listeners_may_use_fast_open": mode.server(),
        }));
    }
    if interfaces.is_empty() {
        print("not attached to any interface here\n")?;
    } else {
        let mut rows = vec![vec![
            "interface".to_owned(),
            "mode".into(),
            "mirror".into(),
            "program".into(),
            "build".into(),
        ]];
        let own = Build::own();
        for interface in &interfaces {
            let mode = interface
                .mode
                .map_or("not attached any more".to_owned(), |mode| mode.to_string());
            rows.push(vec![
                interface.label(),
                mode,
                interface.mirror.to_string(),
                interface.program_id.to_string(),
                match &interface.build {
                    Some(build) if *build == own => build.to_string(),
                    Some(build) => format!("{build}, not this one"),
                    None => "older".into(),
                },
            ]);
        }
        print(&table(&rows))?;
        let keys: Vec<String> = keys.iter().map(ToString::to_string).collect();
        let age = age.map_or(String::new(), |age| {
            format!(", changed {} s ago", age.as_secs())
        });
        print(&format!("keys: {}{age}\n", keys.join(", ")))?;
        let maps: Vec<String> = memory
            .iter()
            .map(|(name, bytes)| format!("{name} {}", kib(*bytes)))
            .collect();
        print(&format!(
            "kernel memory of the maps: {} ({})\n",
            kib(total),
            maps.join(", ")
        ))?;
    }
    for (version, index) in older {
        print(&format!(
            "interface {index}: attached by a tfo of layout {version}: `tfo attach --replace` upgrades it\n"
        ))?;
    }
    if let Some(pid) = controller {
        print(&format!("controller: `tfo run`, process {pid}\n"))?;
    }
    if let Some(farm) = farm {
        print(&format!("farm: {farm}\n"))?;
    }
    print(&format!("net.ipv4.tcp_fastopen = {}\n", mode.0))?;
    warn_if_off()
}

fn kib(bytes: u64) -> String {
    format!("{} KiB", bytes.div_ceil(1024))
}
