//! The guards of a farm's hosts: who takes the answers to challenges, and who challenges for whom.

use tfo_userspace::{
    farm::{FarmStatus, GuardRecord, MemberStatus, Verdict},
    model::EdgeService,
};

use super::super::output::table;

/// Nothing where no host takes part.
pub(super) fn describe(status: &FarmStatus) -> String {
    let heads = [
        "guard",
        "takes answers at",
        "edge of",
        "secret",
        "scale",
        "buffer",
        "mtu",
    ];
    let mut rows = vec![heads.map(str::to_owned).to_vec()];
    if !status.hosts.iter().any(has_part) {
        return String::new();
    }
    let hosts = status.hosts.iter();
    rows.extend(hosts.filter_map(|host| Some(row(&host.name, host.record.guard.as_ref()?))));
    let edges = status.hosts.iter().flat_map(|edge| {
        let services = edge.edges.iter();
        services.map(|(service, verdict)| line(service, &edge.name, verdict))
    });
    table(&rows) + &edges.collect::<String>()
}

/// It takes answers, or challenges for others.
pub(super) fn has_part(host: &MemberStatus) -> bool {
    let guard = host.record.guard.as_ref();
    guard.is_some_and(|guard| !guard.takes.is_empty() || !guard.edges.is_empty())
}

/// Every service that it challenges for has a host that takes the answers, as far as is known.
pub(super) fn is_taken(host: &MemberStatus) -> bool {
    let mut verdicts = host.edges.values();
    verdicts.all(|verdict| verdict.taken != Some(false))
}

fn row(name: &str, guard: &GuardRecord) -> Vec<String> {
    let ports = guard.takes.iter().map(|port| match port {
        0 => "other ports".to_owned(),
        port => port.to_string(),
    });
    let list = |all: Vec<String>| {
        if all.is_empty() {
            "-".to_owned()
        } else {
            all.join(", ")
        }
    };
    vec![
        name.to_owned(),
        list(ports.collect()),
        list(guard.edges.keys().map(ToString::to_string).collect()),
        guard.secret.clone().unwrap_or("-".to_owned()),
        guard.window_scale.to_string(),
        told(guard.receive_buffer),
        told(guard.mtu),
    ]
}

/// A number of bytes, or that there is none.
fn told(bytes: u32) -> String {
    match bytes {
        0 => "-".to_owned(),
        bytes => bytes.to_string(),
    }
}

fn line(service: &EdgeService, edge: &str, verdict: &Verdict) -> String {
    let takers: Vec<_> = verdict.takes.iter().map(String::as_str).collect();
    let takers = takers.join(", ");
    let text = match (verdict.taken, verdict.refuses.is_empty()) {
        (None, _) => "no host of the farm has such an address".to_owned(),
        (Some(true), true) => format!("answers are taken by {takers}"),
        (Some(true), false) => format!("answers are taken by {takers}; {}", verdict.refusals()),
        (Some(false), _) => format!("no host takes answers: {}", verdict.refusals()),
    };
    let unscaled = verdict.taken == Some(true) && verdict.window_scale.is_none();
    let scale = if unscaled {
        "; it states no window scale"
    } else {
        ""
    };
    format!("{service} at {edge}: {text}{scale}\n")
}
