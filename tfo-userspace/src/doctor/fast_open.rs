//! What the kernel is told about Fast Open, and what keeps it from doing it.

use std::{fs, io, time::Duration};

use tfo_common::socket::{NO_COOKIE, SERVER};
use tokio::time::{Instant, sleep_until};

use super::Finding;
use crate::kernel::{netstat::TcpExt, support, sysctl};

const SYN_COOKIES: &str = "/proc/sys/net/ipv4/tcp_syncookies";
const BLACKHOLE: &str = "/proc/sys/net/ipv4/tcp_fastopen_blackhole_timeout_sec";
/// The bits of `net.ipv4.tcp_fastopen` that [`SERVER`] and [`NO_COOKIE`] are not.
const CLIENT: u32 = 0x1;
const CLIENT_NO_COOKIE: u32 = 0x4;
const ALL_LISTENERS: u32 = 0x400;
/// For how long SYN cookies are counted.
const WATCH: Duration = Duration::from_millis(500);

/// How many SYN cookies the kernel had sent, and when.
pub(super) struct CookieWatch {
    sent: Option<u64>,
    until: Instant,
}

impl CookieWatch {
    pub(super) fn start() -> Self {
        Self {
            sent: counter("SyncookiesSent"),
            until: Instant::now() + WATCH,
        }
    }

    /// How many it has sent since.
    async fn end(self) -> Option<u64> {
        sleep_until(self.until).await;
        Some(counter("SyncookiesSent")?.saturating_sub(self.sent?))
    }
}

/// The kernel's cookie keys, without them.
#[derive(Clone, Debug)]
enum Keys {
    Set,
    None,
    /// It takes privileges that this process does not have.
    Hidden,
    Unreadable(String),
}

/// Facts about Fast Open in the namespace.
#[derive(Clone, Debug)]
pub(super) struct FastOpen {
    /// `net.ipv4.tcp_fastopen`.
    mode: Result<u32, String>,
    keys: Keys,
    /// `net.ipv4.tcp_syncookies`.
    syn_cookies: Option<u32>,
    /// SYN cookies that were sent while we looked.
    cookies_sent: Option<u64>,
    /// How often Fast Open was stopped for connections of this host, as a client.
    blackholes: u64,
    /// For how long, in seconds; 0 for not at all.
    blackhole_timeout: u32,
}

impl FastOpen {
    pub(super) async fn read(cookies: CookieWatch) -> Self {
        let keys = match sysctl::key() {
            Ok(Some(_)) => Keys::Set,
            Ok(None) => Keys::None,
            Err(sysctl::SysctlError::Read { source, .. })
                if source.kind() == io::ErrorKind::PermissionDenied
                    && !support::missing_capabilities().is_empty() =>
            {
                Keys::Hidden
            }
            Err(error) => Keys::Unreadable(error.to_string()),
        };
        Self {
            mode: sysctl::mode()
                .map(|mode| mode.0)
                .map_err(|error| error.to_string()),
            keys,
            syn_cookies: number(SYN_COOKIES),
            cookies_sent: cookies.end().await,
            blackholes: counter("TCPFastOpenBlackhole").unwrap_or(0),
            blackhole_timeout: number(BLACKHOLE).unwrap_or(0),
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
                let remedy = "a kernel with TCP Fast Open, and /proc mounted";
                return vec![Finding::problem(CHECK, error).remedy(remedy)];
            }
        };
        let set = |mode: u32| {
            format!(
                "sysctl -w net.ipv4.tcp_fastopen={mode}; and in /etc/sysctl.d, for the next boot"
            )
        };
        let is = format!("net.ipv4.tcp_fastopen = {mode}");
        let mut findings = vec![if mode & SERVER == 0 {
            Finding::problem(
                CHECK,
                format!("{is}, without bit 0x2: listeners take no Fast Open"),
            )
            .remedy(set(mode | SERVER))
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
                "{is}, bit 0x200: NO COOKIE IS ASKED FOR. Listeners take data from any address, \
                 spoofed ones as well, and can be made to flood others with their replies"
            );
            findings.push(Finding::warning("no cookie", found).remedy(set(mode & !NO_COOKIE)));
        }
        if mode & SERVER != 0 && mode & ALL_LISTENERS != 0 {
            let found =
                format!("{is}, bit 0x400: every listener takes Fast Open, asked for or not");
            findings.push(Finding::note("all listeners", found).remedy(
                "make sure that each takes the same request twice without harm (RFC 7413, 2.1)",
            ));
        }
        if mode & CLIENT_NO_COOKIE != 0 {
            let found = format!("{is}, bit 0x4: clients of this host send data without a cookie");
            findings.push(Finding::note("client", found).remedy(set(mode & !CLIENT_NO_COOKIE)));
        }
        findings
    }

    fn keys(&self) -> Finding {
        const CHECK: &str = "keys";
        match &self.keys {
            Keys::Set => Finding::ok(CHECK, "the kernel has a cookie key"),
            Keys::None => Finding::note(
                CHECK,
                "the kernel has no cookie key yet: `tfo attach` and the first listener with Fast Open make one",
            ),
            Keys::Hidden => {
                Finding::unknown(CHECK, "it takes privileges to read net.ipv4.tcp_fastopen_key")
            }
            Keys::Unreadable(error) => Finding::problem(CHECK, error).remedy(
                "in a container or a unit: /proc/sys has to be there, and writable where keys rotate",
            ),
        }
    }

    fn syn_cookies(&self) -> Finding {
        const CHECK: &str = "SYN cookies";
        let sent = self.cookies_sent.unwrap_or(0);
        match self.syn_cookies {
            Some(2) => {
                let found = format!(
                    "net.ipv4.tcp_syncookies = 2: every SYN is answered by a SYN cookie, and Fast Open is off \
                     ({sent} sent in the last half second)"
                );
                Finding::problem(CHECK, found).remedy("sysctl -w net.ipv4.tcp_syncookies=1")
            }
            _ if sent > 0 => {
                let found = format!(
                    "the kernel is sending SYN cookies ({sent} in the last half second): Fast Open is off meanwhile"
                );
                Finding::warning(CHECK, found).remedy(
                    "against a flood: filter it before it gets here; under real load: longer queues \
                     (the backlog of listen(2), net.core.somaxconn)",
                )
            }
            Some(0) => Finding::note(
                CHECK,
                "net.ipv4.tcp_syncookies = 0: with a full SYN queue, SYNs are dropped",
            )
            .remedy("sysctl -w net.ipv4.tcp_syncookies=1"),
            Some(_) => Finding::ok(CHECK, "none is being sent"),
            None => Finding::unknown(CHECK, format!("{SYN_COOKIES} cannot be read")),
        }
    }

    fn blackhole(&self) -> Option<Finding> {
        if self.blackholes == 0 || self.blackhole_timeout == 0 {
            return None;
        }
        let found = format!(
            "as a client, this host stopped using Fast Open {} times, each for {} s or more: \
             something on the way swallowed the data",
            self.blackholes, self.blackhole_timeout
        );
        Some(Finding::note("blackhole", found).remedy(
            "find what drops SYNs with data; sysctl -w net.ipv4.tcp_fastopen_blackhole_timeout_sec=0 ends the pauses",
        ))
    }
}

fn counter(name: &str) -> Option<u64> {
    TcpExt::read().ok()?.get(name)
}

fn number(path: &str) -> Option<u32> {
    fs::read_to_string(path).ok()?.trim().parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::doctor::{
        Verdict::{self, Note, Ok as Fine, Problem, Unknown, Warning},
        finding::testing::expect,
    };

    fn with(change: impl FnOnce(&mut FastOpen)) -> Vec<Finding> {
        let mut facts = FastOpen {
            mode: Ok(0x3),
            keys: Keys::Set,
            syn_cookies: Some(1),
            cookies_sent: Some(0),
            blackholes: 0,
            blackhole_timeout: 0,
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
        // Without the server's bit these two mean nothing.
        assert_eq!(with(|facts| facts.mode = Ok(0x601)).len(), off.len());
        let none = with(|facts| facts.mode = Err("cannot read".into()));
        expect(&none, "tcp_fastopen", Problem, "cannot read");
    }

    #[test]
    fn keys_that_are_not_there_or_not_seen_differ() {
        expect(
            &with(|facts| facts.keys = Keys::None),
            "keys",
            Note,
            "no cookie key yet",
        );
        expect(
            &with(|facts| facts.keys = Keys::Hidden),
            "keys",
            Unknown,
            "privileges",
        );
        let broken = with(|facts| facts.keys = Keys::Unreadable("read-only".into()));
        expect(&broken, "keys", Problem, "read-only");
    }

    #[test]
    fn syn_cookies_are_off_on_demand_always_or_being_sent() {
        let of = |value, sent| {
            with(|facts| (facts.syn_cookies, facts.cookies_sent) = (value, Some(sent)))
        };
        expect(
            &of(Some(2), 9),
            "SYN cookies",
            Problem,
            "tcp_syncookies = 2",
        );
        expect(&of(Some(1), 9), "SYN cookies", Warning, "9 in the last");
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
