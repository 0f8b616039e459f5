//! The listening sockets.

use super::finding::Finding;
use crate::datapath::{self, FastOpenState, ListeningSocket};

const CHECK: &str = "listeners";
/// Fast Open queues shorter than this are reported: so many new clients in one round trip fill them.
const SMALL_QUEUE: u32 = 16;
/// Most listeners that a finding names.
const MAX_NAMED: usize = 4;

pub(super) fn read_and_judge(privileged: bool) -> Vec<Finding> {
    if !privileged {
        let why = "listing listeners takes privileges";
        return vec![Finding::unknown(CHECK, why)];
    }
    match datapath::listeners() {
        Ok(sockets) => judge(&sockets),
        Err(error) => vec![Finding::unknown(CHECK, error.to_string())],
    }
}

fn judge(sockets: &[ListeningSocket]) -> Vec<Finding> {
    if sockets.is_empty() {
        return vec![Finding::note(CHECK, "nothing listens on TCP here")];
    }
    let mut findings = vec![general(sockets)];
    let full = in_state(sockets, FastOpenState::QueueFull);
    if !full.is_empty() {
        let found = format!("the Fast Open queue is full: {}", names(&full));
        findings.push(Finding::warning("queue", found).remedy(
            "raise TCP_FASTOPEN (nginx: `fastopen=1024`); a client that never answers holds a place for a minute",
        ));
    }
    let loud = in_state(sockets, FastOpenState::WithoutCookie);
    if !loud.is_empty() {
        let found = format!(
            "NO COOKIE IS REQUIRED at {}: data is accepted from any address, also a spoofed one",
            names(&loud)
        );
        findings.push(Finding::warning("listeners without cookie", found).remedy(
            "configure the application not to set TCP_FASTOPEN_NO_COOKIE; clear bit 0x200 of net.ipv4.tcp_fastopen",
        ));
    }
    let small = |socket: &&ListeningSocket| (1..SMALL_QUEUE).contains(&socket.limit);
    let small: Vec<_> = sockets.iter().filter(small).collect();
    if !small.is_empty() {
        let found = format!(
            "queues for fewer than {SMALL_QUEUE} pending Fast Open connections: {}",
            names(&small)
        );
        findings.push(Finding::note("small queues", found).remedy(
            "raise TCP_FASTOPEN: the kernel takes at most net.core.somaxconn, as it is when the application sets the option",
        ));
    }
    let multipath: Vec<_> = sockets.iter().filter(|each| each.mptcp).collect();
    if !multipath.is_empty() {
        let found = format!(
            "listen with MPTCP: {}: the guard challenges no SYN there",
            names(&multipath)
        );
        findings.push(Finding::note("MPTCP", found).remedy(
            "to guard them, configure the application to listen without MPTCP (Go, which uses it by default: \
             GODEBUG=multipathtcp=0 or ListenConfig.SetMultipathTCP(false); nginx: no `multipath`)",
        ));
    }
    findings
}

/// The listeners with and without Fast Open.
fn general(sockets: &[ListeningSocket]) -> Finding {
    let off: Vec<_> = sockets.iter().filter(|each| each.limit == 0).collect();
    let mut how =
        "configure the application to set TCP_FASTOPEN before listen(2): nginx `listen 443 ssl \
                   fastopen=256`, HAProxy `bind :443 tfo`, Go `ListenConfig.Control`; while it runs, `tfo enable --port PORT` does so"
            .to_owned();
    if off.iter().any(|each| each.mptcp) {
        how += "; that leaves listeners with MPTCP alone: set it in their application (Linux 6.2 or later), or have them \
                listen without MPTCP first (Go: GODEBUG=multipathtcp=0)";
    }
    if off.len() == sockets.len() {
        let found = format!("none of {} has Fast Open: {}", sockets.len(), names(&off));
        return Finding::warning(CHECK, found).remedy(how);
    }
    let on = sockets.len() - off.len();
    if off.is_empty() {
        return Finding::ok(CHECK, format!("all {on} have Fast Open"));
    }
    let found = format!(
        "{on} of {} have Fast Open; without: {}",
        sockets.len(),
        names(&off)
    );
    Finding::note(CHECK, found).remedy(how)
}

fn in_state(sockets: &[ListeningSocket], state: FastOpenState) -> Vec<&ListeningSocket> {
    let sockets = sockets.iter().filter(|each| each.state == state);
    sockets.collect()
}

fn names(sockets: &[&ListeningSocket]) -> String {
    let first: Vec<_> = sockets
        .iter()
        .take(MAX_NAMED)
        .map(|each| each.name())
        .collect();
    match sockets.len().saturating_sub(MAX_NAMED) {
        0 => first.join(", "),
        more => format!("{} and {more} more", first.join(", ")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::datapath::BoundDevice;
    use crate::doctor::{
        Verdict::{Note, Ok as Fine, Warning},
        finding::testing::expect,
    };

    fn listener(port: u16, limit: u32, state: FastOpenState) -> ListeningSocket {
        ListeningSocket {
            address: ([0, 0, 0, 0], port).into(),
            device: None,
            mptcp: false,
            uid: 0,
            limit,
            queue: 0,
            own_keys: 0,
            backlog: 0,
            max_backlog: 128,
            no_cookie: false,
            state,
        }
    }

    #[test]
    fn those_without_fast_open_are_named() {
        use FastOpenState::{Off, On};
        expect(&judge(&[]), CHECK, Note, "nothing listens");
        expect(
            &judge(&[listener(80, 0, Off)]),
            CHECK,
            Warning,
            "0.0.0.0:80",
        );
        let mixed = judge(&[listener(80, 0, Off), listener(443, 256, On)]);
        expect(&mixed, CHECK, Note, "without: 0.0.0.0:80");
        expect(&judge(&[listener(443, 256, On)]), CHECK, Fine, "all 1");
    }

    #[test]
    fn queues_and_missing_cookies_are_named() {
        use FastOpenState::{On, QueueFull, WithoutCookie};
        let findings = judge(&[
            listener(1, 256, QueueFull),
            listener(2, 256, WithoutCookie),
            listener(3, 5, On),
        ]);
        expect(&findings, "queue", Warning, "0.0.0.0:1");
        expect(&findings, "listeners without cookie", Warning, "0.0.0.0:2");
        expect(&findings, "small queues", Note, "0.0.0.0:3");
    }

    /// Two listeners may differ by their devices alone.
    #[test]
    fn devices_and_mptcp_are_named() {
        let bound = |name: Option<&str>| ListeningSocket {
            device: Some(BoundDevice {
                index: 7,
                name: name.map(str::to_owned),
            }),
            mptcp: name.is_some(),
            ..listener(80, 0, FastOpenState::Off)
        };
        let findings = judge(&[bound(Some("eth0")), bound(None)]);
        let both = "0.0.0.0%eth0:80, 0.0.0.0%if7:80";
        expect(&findings, CHECK, Warning, both);
        expect(&findings, "MPTCP", Note, "0.0.0.0%eth0:80: the guard");
        let how = findings[0].remedy.as_deref().unwrap_or_default();
        assert!(how.contains("leaves listeners with MPTCP alone"), "{how}");
    }

    #[test]
    fn a_line_stays_short() {
        let many: Vec<_> = (1..=6)
            .map(|port| listener(port, 0, FastOpenState::Off))
            .collect();
        let many: Vec<_> = many.iter().collect();
        assert!(names(&many).ends_with("0.0.0.0:4 and 2 more"));
    }
}
