//! The guard in force, and the conditions that limit it.

use std::collections::BTreeMap;

use tfo_common::counters::Counter;

use super::finding::{Finding, judged};
use crate::{
    datapath::{ControllerLock, GuardState, Namespace, NamespaceError, Snapshot, guard_obstacle},
    guard::{
        Obstacle, Trouble, Weight,
        fitness::{self, SYN_COOKIES},
    },
    kernel::sysctl,
    model::PortState,
};

const CHECK: &str = "guard";
/// Most ports that a finding names.
const MAX_NAMED: usize = 4;

/// Facts about the guard in force.
#[derive(Debug)]
struct GuardFacts {
    rules: usize,
    /// The ports, and the services behind this host, that are guarded now.
    on: Vec<String>,
    /// `net.ipv4.tcp_syncookies`; `None` where it cannot be read.
    syn_cookies: Option<u32>,
    /// The host's obstacles to the guard: NAT, strict conntrack.
    obstacles: Vec<Obstacle>,
    interfaces: Vec<GuardedInterface>,
    /// Challenges without an answer, and capped sources, by port; 0 for ports that are not counted separately.
    troubles: Vec<(u16, Trouble)>,
    /// SYNs that could not be challenged, by port; 0 for ports that are not counted separately.
    unfit: BTreeMap<u16, u64>,
    /// Proven connections that the kernel refused to open.
    refused: u64,
    /// A running controller renews the secrets.
    controlled: bool,
}

/// An attached interface.
#[derive(Debug)]
struct GuardedInterface {
    name: String,
    /// It has the guard's programs.
    on: bool,
    /// Why the guard cannot work there.
    obstacle: Option<String>,
    /// Programs of others before the guard's in traffic control: name and id.
    before: Vec<(String, u32)>,
}

/// No findings where there is no guard.
pub(super) async fn read_and_judge() -> Vec<Finding> {
    judged(CHECK, read().await, GuardFacts::judge)
}

async fn read() -> Result<Option<GuardFacts>, NamespaceError> {
    let namespace = Namespace::current()?;
    let Some(state) = namespace.guard().state()? else {
        return Ok(None);
    };
    let interfaces = namespace.interfaces().await?.into_iter();
    let interfaces = interfaces.filter(|interface| interface.mode.is_some());
    let interfaces = interfaces.map(|interface| GuardedInterface {
        name: interface.label(),
        on: namespace.guard().is_on(interface.index),
        obstacle: guard_obstacle(&interface),
        before: namespace.guard().before(
            interface.index,
            interface.name.as_deref().unwrap_or_default(),
        ),
    });
    let facts = GuardFacts {
        syn_cookies: sysctl::syn_cookies().ok(),
        interfaces: interfaces.collect(),
        obstacles: fitness::obstacles(&state.guard),
        // A shared secret is not renewed.
        controlled: ControllerLock::of(&namespace).is_some() || state.guard.secret.is_some(),
        ..GuardFacts::of(&state, &namespace.counters()?)
    };
    Ok(Some(facts))
}

impl GuardFacts {
    fn of(state: &GuardState, counters: &Snapshot) -> Self {
        let ports = counters.ports.iter().map(|(port, counts)| (*port, counts));
        let all = ports.chain([(0, &counters.other)]);
        let unfit = all.map(|(port, counts)| (port, counts.get(Counter::GuardUnfit)));
        Self {
            rules: state.ports.len(),
            on: state
                .ports
                .iter()
                .filter(|it| it.on)
                .map(PortState::name)
                .collect(),
            syn_cookies: None,
            obstacles: Vec::new(),
            interfaces: Vec::new(),
            troubles: troubles(counters),
            unfit: unfit.filter(|(_, count)| *count > 0).collect(),
            refused: counters.total.get(Counter::GuardRefused),
            controlled: true,
        }
    }

    fn judge(&self) -> Vec<Finding> {
        let mut findings = vec![self.general()];
        if self.syn_cookies == Some(0) {
            let found = "net.ipv4.tcp_syncookies = 0: the kernel opens no connection for the guard, so no SYN is \
                         challenged";
            let finding = Finding::warning("guard and SYN cookies", found);
            let finding = finding.remedy("sysctl -w net.ipv4.tcp_syncookies=1");
            findings.push(finding.fix(&sysctl::TCP_SYNCOOKIES, [0, 1]));
        }
        // The host's SYN cookies have a finding of their own.
        let obstacles = self
            .obstacles
            .iter()
            .filter(|each| each.check != SYN_COOKIES);
        findings.extend(obstacles.map(judge_obstacle));
        findings.extend(self.interfaces.iter().filter_map(GuardedInterface::judge));
        findings.extend(self.troubles.iter().map(judge_trouble));
        if !self.unfit.is_empty() {
            let found = format!(
                "SYNs passed unchallenged where the guard cannot prove them (a listener with MPTCP or TCP signatures, or net.ipv4.tcp_syncookies was 0): {}",
                self.unfit_ports()
            );
            findings.push(Finding::warning("guard and listeners", found).remedy(
                "configure the application to listen without MPTCP (Go: GODEBUG=multipathtcp=0; nginx: no `multipath`); \
                 `tfo policy` can limit SYNs meanwhile",
            ));
        }
        if self.refused > 0 {
            let found = format!(
                "the kernel refused {} connections that the guard had proven",
                self.refused
            );
            findings.push(Finding::warning("guard and kernel", found).remedy(
                "accept faster, or raise the backlog: `tfo listeners` shows queues; turning off tcp_timestamps, tcp_sack or \
                 tcp_window_scaling by sysctl also causes this: for a moment, or as long as an edge in front has them on",
            ));
        }
        if !self.controlled {
            let found = "no controller renews the secrets of its challenges";
            findings.push(Finding::note("guard's secrets", found).remedy("tfo run"));
        }
        findings
    }

    fn general(&self) -> Finding {
        let noun = if self.rules == 1 { "rule" } else { "rules" };
        let rules = format!("{} {noun} in force", self.rules);
        if self.on.is_empty() {
            return Finding::ok(CHECK, format!("{rules}; no port is guarded now"));
        }
        let found = format!("{rules}; guarded now: {}", named(&self.on));
        Finding::note(CHECK, found)
            .remedy("nothing, if the port is flooded: see `tfo guard show`, `tfo top`")
    }

    fn unfit_ports(&self) -> String {
        let ports = self.unfit.keys().map(|port| port_name(*port));
        named(&ports.collect::<Vec<_>>())
    }
}

impl GuardedInterface {
    fn judge(&self) -> Option<Finding> {
        let Self { name, .. } = self;
        if !self.on {
            return Some(self.without());
        }
        let finding = if let Some(obstacle) = &self.obstacle {
            Finding::problem("guard and device", obstacle.as_str())
                .remedy("as said, and then `tfo guard set` again")
        } else if self.before.is_empty() {
            return None;
        } else {
            let programs = self
                .before
                .iter()
                .map(|(name, id)| format!("{name} (id {id})"));
            let found = format!(
                "TCX programs run before the guard's: {}. If one of them ends the chain, no ACK reaches the guard, and \
                 connections are reset",
                programs.collect::<Vec<_>>().join(", ")
            );
            Finding::problem("guard and TCX", found)
                .remedy("`tfo guard set` again puts the guard's program first")
        };
        Some(finding.of(name))
    }

    /// The finding for an attached interface without the guard.
    fn without(&self) -> Finding {
        let check = "guard and interface";
        let Self { name, .. } = self;
        let finding = if let Some(obstacle) = &self.obstacle {
            let found = format!(
                "it has no guard: no SYN is challenged. The guard cannot work there: {obstacle}"
            );
            Finding::warning(check, found).remedy("as said, and then `tfo guard set` again")
        } else {
            let found = "it has no guard: no SYN is challenged";
            let remedy =
                "run `tfo guard set` again, which prints the reason; the guard needs Linux 6.9";
            Finding::warning(check, found).remedy(remedy)
        };
        finding.of(name)
    }
}

fn judge_obstacle(obstacle: &Obstacle) -> Finding {
    let finding = if obstacle.refuses() {
        Finding::problem(obstacle.check, obstacle.found.as_str())
    } else if obstacle.weight == Weight::Idle {
        Finding::warning(obstacle.check, obstacle.found.as_str())
    } else {
        Finding::unknown(obstacle.check, obstacle.found.as_str())
    };
    finding.remedy(obstacle.short_remedy())
}

fn judge_trouble((port, trouble): &(u16, Trouble)) -> Finding {
    let found = format!("{trouble}: {}", port_name(*port));
    let finding = match trouble {
        Trouble::Unanswered(_) | Trouble::Unproven(_) => {
            Finding::warning("guard and answers", found)
        }
        Trouble::Capped(_) => Finding::note("guard and busy sources", found),
    };
    finding.remedy(trouble.remedy())
}

fn troubles(counters: &Snapshot) -> Vec<(u16, Trouble)> {
    let ports = counters.ports.iter().map(|(port, counts)| (*port, counts));
    let of = |(port, counts)| Trouble::of(counts).into_iter().map(move |it| (port, it));
    ports.chain([(0, &counters.other)]).flat_map(of).collect()
}

fn port_name(port: u16) -> String {
    match port {
        0 => "others".to_owned(),
        port => port.to_string(),
    }
}

fn named(ports: &[String]) -> String {
    let first = &ports[..ports.len().min(MAX_NAMED)];
    let first = first.join(", ");
    match ports.len().saturating_sub(MAX_NAMED) {
        0 => first,
        more => format!("{first} and {more} more"),
    }
}

#[cfg(test)]
mod tests;
