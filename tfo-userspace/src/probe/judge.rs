//! The meaning of a probe's observations.

use std::collections::BTreeSet;

use serde::Serialize;

use super::{
    path::Hop,
    run::{CLIENT, Probe},
    segment::Quoted,
    syns::{Heard, Syns},
};
use crate::kernel::client_socket::{ClientFail, Connected};

/// The severity of a finding.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum ProbeVerdict {
    /// As it should be.
    Ok,
    /// Could not be seen.
    Unknown,
    /// Worth knowing.
    Note,
    /// Keeps Fast Open from working, always or at times.
    Problem,
}

/// One result of a probe.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct ProbeFinding {
    /// The name of the check.
    pub check: &'static str,
    /// The severity.
    pub verdict: ProbeVerdict,
    /// The observation.
    pub found: String,
    /// The remedy.
    pub remedy: Option<&'static str>,
}

impl ProbeFinding {
    fn new(check: &'static str, verdict: ProbeVerdict, found: impl Into<String>) -> Self {
        Self {
            check,
            verdict,
            found: found.into(),
            remedy: None,
        }
    }

    fn ok(check: &'static str, found: impl Into<String>) -> Self {
        Self::new(check, ProbeVerdict::Ok, found)
    }

    fn problem(check: &'static str, found: impl Into<String>, remedy: &'static str) -> Self {
        Self {
            remedy: Some(remedy),
            ..Self::new(check, ProbeVerdict::Problem, found)
        }
    }
}

const HOST: &str = "this host";
const COOKIE: &str = "cookie";
const DATA: &str = "data";
const KEYS: &str = "keys";
const TIME: &str = "time";

const ASK_OPERATOR: &str = "ask whoever runs that part of the path to let TCP option 34 pass";

/// Returns the findings of a probe, in the order of a connection.
pub fn judge(probe: &Probe) -> Vec<ProbeFinding> {
    let mut findings = Vec::new();
    findings.extend(host(probe));
    findings.push(cookie(probe));
    findings.extend(keys(probe));
    findings.extend(data(probe));
    findings.extend(time(probe));
    if let Some(not_seen) = &probe.not_seen {
        findings.push(ProbeFinding::new(
            "not seen",
            ProbeVerdict::Unknown,
            not_seen.as_str(),
        ));
    }
    findings
}

fn host(probe: &Probe) -> Option<ProbeFinding> {
    let value = probe.tcp_fastopen;
    if value & CLIENT == 0 {
        return Some(ProbeFinding::problem(
            HOST,
            format!(
                "net.ipv4.tcp_fastopen = {value}, without bit 0x1: no program here can use Fast Open as a client"
            ),
            "set the bit: sysctl -w net.ipv4.tcp_fastopen=3 (1 for clients alone)",
        ));
    }
    let untried = probe.fast_open.iter().filter(|each| !tried(each)).count();
    (untried > 0).then(|| {
        ProbeFinding::problem(
            HOST,
            format!(
                "the kernel used no Fast Open in {untried} of {} connections: it turns it off for a while when connections with it fail (TCPFastOpenBlackhole)",
                probe.fast_open.len()
            ),
            "have it try again: sysctl -w net.ipv4.tcp_fastopen_blackhole_timeout_sec=0, or wait for that time",
        )
    })
}

/// The kernel asked for a cookie, or used one.
const fn tried(connected: &Connected) -> bool {
    connected.syn_data_taken || !matches!(connected.client_fail, ClientFail::None)
}

/// The kernel had a cookie.
const fn with_cookie(connected: &Connected) -> bool {
    tried(connected) && !matches!(connected.client_fail, ClientFail::NoCookie)
}

fn cookie(probe: &Probe) -> ProbeFinding {
    let by_sockets = probe.fast_open.iter().any(with_cookie);
    let Some(syns) = &probe.syns else {
        return match (by_sockets, probe.fast_open.is_empty()) {
            (true, _) => ProbeFinding::ok(COOKIE, "the server hands out cookies"),
            (false, true) => ProbeFinding::new(
                COOKIE,
                ProbeVerdict::Unknown,
                "sockets here ask for none, and raw SYNs take privileges",
            ),
            (false, false) => none(
                "no cookie came: Fast Open is off at the server, or something on the path strips the option",
            ),
        };
    };
    if !syns.plain.is_syn_ack() {
        return ProbeFinding::new(
            COOKIE,
            ProbeVerdict::Unknown,
            "raw SYNs are not answered, though sockets are: a firewall here or there takes them for something else",
        );
    }
    let asked = syns.requests.len();
    let given = with(&syns.requests);
    if given == asked && given > 0 {
        let forms = match syns.experimental.cookie() {
            Some(_) => "kinds 34 and 254",
            None => "kind 34; none by kind 254, which old clients use",
        };
        return ProbeFinding::ok(COOKIE, format!("the server hands out cookies by {forms}"));
    }
    if given > 0 {
        return ProbeFinding::problem(
            COOKIE,
            format!("{given} of {asked} requests got a cookie"),
            "look for a server behind this address without Fast Open, or in a SYN flood: `tfo doctor`, `tfo stats` there",
        );
    }
    no_cookie(syns, by_sockets)
}

fn none(found: impl Into<String>) -> ProbeFinding {
    ProbeFinding::problem(
        COOKIE,
        found,
        "see `tfo doctor` at the server; `tfo enable` turns Fast Open on for an application that does not",
    )
}

/// Raw requests got no cookie.
fn no_cookie(syns: &Syns, by_sockets: bool) -> ProbeFinding {
    if syns.requests.contains(&Heard::Silence) {
        return ProbeFinding::problem(
            COOKIE,
            format!(
                "SYNs with the Fast Open option are dropped{}",
                dropped_at(&syns.hops, &syns.plain_hops)
            ),
            ASK_OPERATOR,
        );
    }
    let place = changed_at(&syns.hops, Quoted::Missing);
    if by_sockets && syns.experimental.cookie().is_some() {
        let place = place.unwrap_or("from the SYN-ACK, or the server does not know it".to_owned());
        return ProbeFinding {
            remedy: Some(ASK_OPERATOR),
            ..ProbeFinding::new(
                COOKIE,
                ProbeVerdict::Note,
                format!(
                    "the option of kind 34 is stripped {place}; kind 254, the experimental form, passes: Linux asks by it after kind 34 brought no cookie, others may not"
                ),
            )
        };
    }
    if let Some(place) = place {
        return ProbeFinding::problem(
            COOKIE,
            format!("the Fast Open option is stripped {place}"),
            ASK_OPERATOR,
        );
    }
    let farthest = syns
        .hops
        .iter()
        .rfind(|hop| hop.option == Some(Quoted::Intact));
    let seen = farthest.map_or("no hop shows whether it arrives".to_owned(), |hop| {
        format!(
            "the option is intact at {}, the last hop that shows it",
            name(hop)
        )
    });
    none(format!(
        "no cookie came: Fast Open is off at the server, or something strips the option; {seen}. What is stripped from the SYN-ACK no hop can show"
    ))
}

/// Different cookies: different keys.
fn keys(probe: &Probe) -> Option<ProbeFinding> {
    let syns = probe.syns.as_ref()?;
    let heard = syns.requests.iter().chain(&syns.presented);
    let different: BTreeSet<_> = heard.clone().filter_map(|heard| heard.cookie()).collect();
    let given = heard.filter(|heard| heard.cookie().is_some()).count();
    match different.len() {
        0 => None,
        1 => Some(ProbeFinding::ok(
            KEYS,
            format!("{given} answers, each to another port, have the same cookie: one key"),
        )),
        many => Some(ProbeFinding::problem(
            KEYS,
            format!(
                "{given} answers have {many} different cookies: the servers behind this address have {many} keys, or see this host under {many} addresses; a cookie is refused wherever another one answers"
            ),
            "give the servers one key and one address (`tfo farm`), or own cookies, which hold on any backend (docs/cookies.md)",
        )),
    }
}

fn with(heard: &[Heard]) -> usize {
    heard
        .iter()
        .filter(|heard| heard.cookie().is_some())
        .count()
}

/// Data in the SYN, by what sockets saw.
fn data(probe: &Probe) -> Option<ProbeFinding> {
    let tried: Vec<_> = probe
        .fast_open
        .iter()
        .filter(|it| with_cookie(it))
        .collect();
    let all = tried.len();
    if all == 0 {
        return None;
    }
    let failed = |why| tried.iter().filter(|it| it.client_fail == why).count();
    let lost = failed(ClientFail::SynRetransmitted);
    if lost > 0 {
        return Some(ProbeFinding::problem(
            DATA,
            format!(
                "{lost} of {all} SYNs with a cookie and data got no answer, which costs a second{}",
                why_lost(probe.syns.as_ref())
            ),
            "ask whoever runs that part of the path to let SYNs with data pass (RFC 7413, section 7.1)",
        ));
    }
    let refused = failed(ClientFail::DataNotAcked);
    if refused > 0 {
        return Some(not_taken(probe.syns.as_ref(), refused, all));
    }
    Some(ProbeFinding::ok(
        DATA,
        format!("taken from the SYN in {all} of {all} connections, each from another port"),
    ))
}

/// Explains SYNs without an answer by the answers to raw SYNs.
fn why_lost(syns: Option<&Syns>) -> String {
    let Some(syns) = syns else {
        return String::new();
    };
    let what = match (syns.presented, syns.cookie_alone, syns.data_alone) {
        (Some(Heard::Silence), Some(Heard::Silence), _) => "SYNs with a cookie",
        (Some(Heard::Silence), _, Some(Heard::Silence)) => "SYNs with data",
        (Some(Heard::Silence), ..) => "SYNs with both a cookie and data",
        _ => return ": not so a raw SYN after them, so they may have been lost".to_owned(),
    };
    format!(
        ": {what} are dropped{}",
        dropped_at(&syns.hops, &syns.plain_hops)
    )
}

fn not_taken(syns: Option<&Syns>, refused: usize, all: usize) -> ProbeFinding {
    let found = format!("{refused} of {all} SYNs with a cookie did not have their data taken");
    let presented = syns.and_then(|syns| syns.presented);
    let (why, remedy) = match (syns, presented) {
        (Some(syns), Some(Heard::SynAck { acked: 0, cookie: Some(1), .. })) => {
            let place = changed_at(&syns.hops, Quoted::Changed)
                .unwrap_or("where no hop shows it".to_owned());
            (
                format!(": the server gives the same cookie again, so the one in the SYN is changed {place}"),
                ASK_OPERATOR,
            )
        }
        (_, Some(Heard::SynAck { acked: 0, cookie: Some(_), .. })) => (
            ": the server takes another cookie by now".to_owned(),
            "see the keys above; if they are one, the server changed its key: probe again",
        ),
        (Some(syns), Some(Heard::SynAck { acked: 0, cookie: None, .. })) => (
            changed_at(&syns.hops, Quoted::Missing).map_or(
                ": the server takes none now: its Fast Open queue is full, or it is sending SYN cookies"
                    .to_owned(),
                |place| format!(": the option with the cookie is stripped {place}"),
            ),
            "see `tfo stats` and `tfo listeners` at the server",
        ),
        (_, Some(_)) => (
            ": a raw SYN after them had its data taken".to_owned(),
            "the cookie of this host was stale, or a server behind the address is full: probe again",
        ),
        _ => (
            String::new(),
            "probe as root, with a higher --count, to see how many keys the servers have",
        ),
    };
    ProbeFinding::problem(DATA, found + &why, remedy)
}

fn time(probe: &Probe) -> Option<ProbeFinding> {
    let taken = probe.fast_open.iter().filter(|each| each.syn_data_taken);
    // The least of each: the others waited for something.
    let with = taken.filter_map(|each| each.data_acked_us).min()?;
    let without = probe
        .plain
        .iter()
        .filter_map(|each| each.data_acked_us)
        .min()?;
    Some(ProbeFinding::ok(
        TIME,
        format!(
            "the first data is acknowledged after {} ms, without Fast Open after {} ms",
            millis(with),
            millis(without)
        ),
    ))
}

fn millis(micros: u64) -> String {
    format!("{}.{:02}", micros / 1000, micros % 1000 / 10)
}

fn name(hop: &Hop) -> String {
    let ttl = hop.ttl;
    match hop.router {
        Some(router) => format!("hop {ttl} ({router})"),
        None => format!("hop {ttl}"),
    }
}

/// The place where the option becomes `change`; `None` where no hop shows that.
fn changed_at(hops: &[Hop], change: Quoted) -> Option<String> {
    let at = hops.iter().position(|hop| hop.option == Some(change))?;
    let before = hops[..at]
        .iter()
        .rfind(|hop| hop.option == Some(Quoted::Intact));
    let to = name(&hops[at]);
    Some(match before {
        Some(before) => format!("between {} and {to}", name(before)),
        None => format!("before {to}"),
    })
}

/// The place behind which nothing is heard of a SYN, where a plain one gets farther.
fn dropped_at(hops: &[Hop], plain: &[Hop]) -> String {
    let last = hops.iter().rfind(|hop| hop.router.is_some());
    let reach = last.map_or(0, |hop| hop.ttl);
    let next = plain
        .iter()
        .find(|hop| hop.ttl > reach && (hop.router.is_some() || hop.server));
    match (last, next) {
        (_, None) => String::new(),
        (None, Some(next)) => format!(" before {}", name(next)),
        (Some(last), Some(next)) => {
            let to = if next.server {
                "the server".to_owned()
            } else {
                name(next)
            };
            format!(" between {} and {to}", name(last))
        }
    }
}

#[cfg(test)]
mod tests;
