//! The kernel's settings of Fast Open, and the conditions that turn it off.

use std::{io, time::Duration};

use tfo_common::classify::socket::{NO_COOKIE, SERVER};
use tokio::time::{Instant, sleep_until};

use super::finding::Finding;
use crate::{
    datapath::Namespace,
    kernel::{
        netstat::TcpExt,
        support,
        sysctl::{
            self, ALL_LISTENERS, Mode, TCP_FASTOPEN, TCP_FASTOPEN_BLACKHOLE_TIMEOUT, TCP_SYNCOOKIES,
        },
    },
};

const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";
/// Further bits of `net.ipv4.tcp_fastopen` beside [`SERVER`], [`NO_COOKIE`] and [`ALL_LISTENERS`].
const CLIENT: u32 = 0x1;
const CLIENT_NO_COOKIE: u32 = 0x4;
/// The least time for which SYN cookies are counted: other checks may take longer.
const COUNT_TIME: Duration = Duration::from_millis(500);

/// A count of the SYN cookies that the kernel sends from now on.
pub(super) struct SynCookieCount {
    /// The counter at the start.
    sent: Option<u64>,
    since: Instant,
}

impl SynCookieCount {
    pub(super) fn start() -> Self {
        Self {
            sent: counter("SyncookiesSent"),
            since: Instant::now(),
        }
    }

    /// Waits for the end of [`COUNT_TIME`]. Gives the number of SYN cookies since the start, and the time since then.
    async fn end(self) -> (Option<u64>, Duration) {
        sleep_until(self.since + COUNT_TIME).await;
        let sent = counter("SyncookiesSent").zip(self.sent);
        let sent = sent.map(|(now, before)| now.saturating_sub(before));
        (sent, self.since.elapsed())
    }
}

/// Presence of the kernel's Fast Open keys.
#[derive(Clone, Debug)]
enum KernelKeyState {
    Set,
    None,
    /// This process lacks the privileges to read them.
    Hidden,
    Unreadable(String),
}

/// Facts about Fast Open in the namespace.
#[derive(Clone, Debug)]
pub(super) struct FastOpenFacts {
    /// `net.ipv4.tcp_fastopen`.
    mode: Result<u32, String>,
    keys: KernelKeyState,
    /// The keys cannot be written, though this process has the privileges.
    read_only: bool,
    /// `net.ipv4.tcp_syncookies`.
    syn_cookies: Option<u32>,
    /// SYN cookies that were sent while the host was examined, and that time.
    cookies_sent: (Option<u64>, Duration),
    /// Times that this host, as a client, suspended Fast Open: `TCPFastOpenBlackhole`.
    blackholes: u64,
    /// `tcp_fastopen_blackhole_timeout_sec`; 0 for no suspension.
    blackhole_timeout: u32,
    /// The guard in force is for hosts behind this one alone: listeners here are not what `tfo` is for.
    is_edge: bool,
}

impl FastOpenFacts {
    pub(super) async fn read(cookies: SynCookieCount) -> Self {
        let keys = match sysctl::key() {
            Ok(Some(_)) => KernelKeyState::Set,
            Ok(None) => KernelKeyState::None,
            Err(sysctl::SysctlError::Read { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied
                    && !support::missing_capabilities().is_empty() =>
            {
                KernelKeyState::Hidden
            }
            Err(error) => KernelKeyState::Unreadable(error.to_string()),
        };
        Self {
            mode: sysctl::mode()
                .map(|mode| mode.0)
                .map_err(|error| error.to_string()),
            keys,
            read_only: support::missing_capabilities().is_empty() && !sysctl::is_key_writable(),
            syn_cookies: sysctl::syn_cookies().ok(),
            cookies_sent: cookies.end().await,
            blackholes: counter("TCPFastOpenBlackhole").unwrap_or(0),
            blackhole_timeout: TCP_FASTOPEN_BLACKHOLE_TIMEOUT.get().unwrap_or(0),
            is_edge: is_edge(),
        }
    }

    pub(super) fn judge(&self) -> Vec<Finding> {
        let mut findings = self.mode();
        findings.extend([self.keys(), self.syn_cookies()]);
        findings.extend(self.blackhole());
        findings
    }

    fn mode(&self) -> Vec<Finding> {
        const CHECK: &str = "tcp_fastopen";
        let mode = match &self.mode {
            Ok(mode) => *mode,
            Err(error) => {
                let remedy = "use a kernel with TCP Fast Open, and mount /proc";
                return vec![Finding::problem(CHECK, error).remedy(remedy)];
            }
        };
        let set = |mode: u32| {
            format!(
                "sysctl -w net.ipv4.tcp_fastopen={mode}; also in /etc/sysctl.d, for the next boot"
            )
        };
        let is = format!("net.ipv4.tcp_fastopen = {mode}");
        let off = mode & SERVER == 0;
        let mut findings = vec![if off && self.is_edge {
            let found = format!(
                "{is}: Fast Open is off for listeners of this host, which the guard does not need"
            );
            Finding::note(CHECK, found).remedy(format!(
                "nothing, unless listeners here are to have Fast Open: {}",
                set(mode | SERVER)
            ))
        } else if off {
            let Mode(on) = Mode(mode).with_server();
            Finding::problem(
                CHECK,
                format!("{is}, without bit 0x2: Fast Open is off for listeners"),
            )
            .remedy(set(on))
            .fix(&TCP_FASTOPEN, [mode, on])
        } else {
            let client = match mode & CLIENT {
                0 => "off",
                _ => "on",
            };
            Finding::ok(
                CHECK,
                format!("{is}: on for listeners, {client} for clients of this host"),
            )
        }];
        if mode & SERVER != 0 && mode & NO_COOKIE != 0 {
            let found = format!(
                "{is}, bit 0x200: NO COOKIE IS REQUIRED. Listeners accept data from any address, \
                 also a spoofed one, and can be abused to flood others with their replies"
            );
            let cookies = mode & !NO_COOKIE;
            let finding = Finding::warning("no cookie", found).remedy(set(cookies));
            findings.push(finding.fix(&TCP_FASTOPEN, [mode, cookies]));
        }
        if mode & SERVER != 0 && mode & ALL_LISTENERS != 0 {
            let found = format!(
                "{is}, bit 0x400: Fast Open is on for every listener, whether its application asked for it or not"
            );
            findings.push(Finding::note("all listeners", found).remedy(
                "make sure that each application can take the same request twice (RFC 7413, 2.1)",
            ));
        }
        if mode & CLIENT_NO_COOKIE != 0 {
            let found = format!("{is}, bit 0x4: clients of this host send data without a cookie");
            let cookies = mode & !CLIENT_NO_COOKIE;
            let finding = Finding::note("client", found).remedy(set(cookies));
            findings.push(finding.fix(&TCP_FASTOPEN, [mode, cookies]));
        }
        findings
    }

    fn keys(&self) -> Finding {
        const CHECK: &str = "keys";
        match &self.keys {
            KernelKeyState::Set | KernelKeyState::None if self.read_only => Finding::warning(
                CHECK,
                "net.ipv4.tcp_fastopen_key cannot be written here: keys do not rotate",
            )
            .remedy(
                "in a container or a unit, make /proc/sys writable; or tfo run --key-source kernel, which writes none",
            ),
            KernelKeyState::Set => Finding::ok(CHECK, "the kernel has a cookie key"),
            KernelKeyState::None => Finding::note(
                CHECK,
                "the kernel has no cookie key yet: `tfo attach` or the first listener with Fast Open creates one",
            ),
            KernelKeyState::Hidden => {
                Finding::unknown(CHECK, "reading net.ipv4.tcp_fastopen_key takes privileges")
            }
            KernelKeyState::Unreadable(error) => Finding::problem(CHECK, error).remedy(
                "in a container or a unit, make /proc/sys available, and writable if keys are to rotate",
            ),
        }
    }

    fn syn_cookies(&self) -> Finding {
        const CHECK: &str = "SYN cookies";
        let (sent, time) = self.cookies_sent;
        let (sent, time) = (sent.unwrap_or(0), format!("{:.1} s", time.as_secs_f64()));
        match self.syn_cookies {
            Some(2) => {
                let found = format!(
                    "net.ipv4.tcp_syncookies = 2: every SYN is answered with a SYN cookie, and Fast Open is off \
                     ({sent} sent in the last {time})"
                );
                Finding::problem(CHECK, found)
                    .remedy("sysctl -w net.ipv4.tcp_syncookies=1")
                    .fix(&TCP_SYNCOOKIES, [2, 1])
            }
            _ if sent > 0 => {
                let found = format!(
                    "the kernel is sending SYN cookies ({sent} in the last {time}): Fast Open is off meanwhile"
                );
                Finding::warning(CHECK, found).remedy(
                    "in a flood, filter it upstream, or see `tfo guard`; under real load, lengthen the queues \
                     (the backlog of listen(2), net.core.somaxconn)",
                )
            }
            Some(0) => Finding::note(
                CHECK,
                "net.ipv4.tcp_syncookies = 0: SYNs are dropped while a SYN queue is full",
            )
            .remedy("sysctl -w net.ipv4.tcp_syncookies=1")
            .fix(&TCP_SYNCOOKIES, [0, 1]),
            Some(_) => Finding::ok(CHECK, "none is being sent"),
            None => Finding::unknown(CHECK, format!("{SYN_COOKIES} cannot be read")),
        }
    }

    fn blackhole(&self) -> Option<Finding> {
        if self.blackholes == 0 || self.blackhole_timeout == 0 {
            return None;
        }
        let found = format!(
            "as a client, this host suspended Fast Open {} times, each for {} s or more: \
             something on the path drops SYNs with data",
            self.blackholes, self.blackhole_timeout
        );
        Some(Finding::note("blackhole", found).remedy(
            "find what drops SYNs with data; sysctl -w net.ipv4.tcp_fastopen_blackhole_timeout_sec=0 turns the suspension off",
        ))
    }
}

fn is_edge() -> bool {
    let guard = Namespace::current().ok();
    let state = guard.and_then(|namespace| namespace.guard().state().ok()?);
    state.is_some_and(|state| !state.guard.is_for_host())
}

fn counter(name: &str) -> Option<u64> {
    TcpExt::read().ok()?.get(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Verdict::{self, Note, Ok as Fine, Problem, Unknown, Warning},
        finding::testing::expect,
    };

    fn with(change: impl FnOnce(&mut FastOpenFacts)) -> Vec<Finding> {
        let mut facts = FastOpenFacts {
            mode: Ok(0x3),
            keys: KernelKeyState::Set,
            read_only: false,
            syn_cookies: Some(1),
            cookies_sent: (Some(0), COUNT_TIME),
            blackholes: 0,
            blackhole_timeout: 0,
            is_edge: false,
        };
        change(&mut facts);
        facts.judge()
    }

    #[test]
    fn the_usual_settings_are_fine() {
        let findings = with(|_| ());
        assert!(
            findings.iter().all(|each| each.verdict == Verdict::Ok),
            "{findings:?}"
        );
    }

    #[test]
    fn the_bits_are_told_apart() {
        let off = with(|facts| facts.mode = Ok(0x1));
        expect(&off, "tcp_fastopen", Problem, "without bit 0x2");
        let remedy = off[0].remedy.as_deref().unwrap();
        assert!(remedy.contains("tcp_fastopen=3"), "{remedy}");
        let edge = with(|facts| (facts.mode, facts.is_edge) = (Ok(0x1), true));
        expect(&edge, "tcp_fastopen", Note, "does not need");
        let loud = with(|facts| facts.mode = Ok(0x203));
        expect(&loud, "tcp_fastopen", Fine, "on for listeners");
        expect(&loud, "no cookie", Warning, "spoofed");
        let remedy = loud[1].remedy.as_deref().unwrap();
        assert!(remedy.contains("tcp_fastopen=3;"), "{remedy}");
        expect(
            &with(|facts| facts.mode = Ok(0x402)),
            "all listeners",
            Note,
            "0x400",
        );
        expect(&with(|facts| facts.mode = Ok(0x7)), "client", Note, "0x4");
        // Without the server bit these two have no effect, and get none with it.
        let idle = with(|facts| facts.mode = Ok(0x601));
        assert_eq!(idle.len(), off.len());
        assert_eq!(idle[0].fix.map(|fix| (fix.from, fix.to)), Some((0x601, 3)));
        let none = with(|facts| facts.mode = Err("cannot read".into()));
        expect(&none, "tcp_fastopen", Problem, "cannot read");
    }

    #[test]
    fn keys_that_are_not_there_or_not_seen_differ() {
        expect(
            &with(|facts| facts.keys = KernelKeyState::None),
            "keys",
            Note,
            "no cookie key yet",
        );
        expect(
            &with(|facts| facts.keys = KernelKeyState::Hidden),
            "keys",
            Unknown,
            "privileges",
        );
        let fixed = with(|facts| facts.read_only = true);
        expect(&fixed, "keys", Warning, "cannot be written");
        let none = with(|facts| (facts.keys, facts.read_only) = (KernelKeyState::None, true));
        expect(&none, "keys", Warning, "cannot be written");
        let broken = with(|facts| facts.keys = KernelKeyState::Unreadable("read-only".into()));
        expect(&broken, "keys", Problem, "read-only");
    }

    #[test]
    fn syn_cookies_are_off_on_demand_always_or_being_sent() {
        let of = |value, sent| {
            with(|facts| {
                facts.syn_cookies = value;
                facts.cookies_sent = (Some(sent), Duration::from_millis(1_240));
            })
        };
        expect(
            &of(Some(2), 9),
            "SYN cookies",
            Problem,
            "tcp_syncookies = 2",
        );
        expect(
            &of(Some(1), 9),
            "SYN cookies",
            Warning,
            "9 in the last 1.2 s",
        );
        expect(&of(Some(0), 0), "SYN cookies", Note, "dropped");
        expect(&of(None, 0), "SYN cookies", Unknown, "cannot be read");
    }

    #[test]
    fn a_blackhole_is_told_where_it_makes_a_pause() {
        let of = |times, seconds| {
            with(|facts| (facts.blackholes, facts.blackhole_timeout) = (times, seconds))
        };
        expect(&of(2, 3600), "blackhole", Note, "2 times");
        assert!(of(2, 0).iter().all(|each| each.check != "blackhole"));
        assert!(of(0, 3600).iter().all(|each| each.check != "blackhole"));
    }
}
