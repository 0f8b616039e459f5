//! The table of conditions.

use tfo_common::counters::Counter::{self, ReasonAcceptQueueFull, ReasonBadCookie, ReasonBadLength, ReasonListenerWithout, ReasonNoListener, ReasonOff, ReasonQueueFull, ReasonRetransmission, ReasonSynCookies, ReasonSynQueueFull};
use tfo_testbed::socket::Settings;

use Syn::{Backup, Bad, BadLength, Data, OfTheHost, Plain, Primary, Request};

/// A condition: setup, and the expected result of each SYN.
pub(crate) struct Condition {
    pub(crate) name: &'static str,
    /// Sysctls of the server, added to [`DEFAULTS`].
    pub(crate) host: &'static [(&'static str, &'static str)],
    /// `None`: no listener.
    pub(crate) listener: Option<Settings>,
    pub(crate) before: Before,
    pub(crate) each: Each,
    pub(crate) rows: &'static [Row],
    /// Other rows for kernels before this release of Linux.
    pub(crate) older: Option<((u8, u8), &'static [Row])>,
}

/// The expected result of these SYNs, with and without data.
pub(crate) struct Row {
    pub(crate) syns: &'static [Syn],
    /// Counters of [`KERNEL`] that increase by one.
    pub(crate) counts: &'static [&'static str],
    pub(crate) reply: Reply,
    pub(crate) reason: Option<Counter>,
}

/// Kinds of SYN.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Syn {
    /// No Fast Open option, no data.
    Plain,
    /// No Fast Open option, data.
    Data,
    /// A cookie request.
    Request,
    /// A cookie of the listener's primary key.
    Primary,
    /// A cookie of the listener's backup key; of the host's backup key if the listener has one key of its own.
    Backup,
    /// A cookie of the host's primary key.
    OfTheHost,
    /// Eight bytes that are not a valid cookie.
    Bad,
    /// A cookie of six bytes, which is too short.
    BadLength,
}

/// Connections that fill the listener's queues before the rows are sent.
pub(crate) enum Before {
    Nothing,
    /// Number of SYNs whose handshakes do not complete.
    Plain(usize),
    /// Number of SYNs that are accepted by their cookie.
    Accepted(usize),
}

/// Segments sent before each SYN.
#[derive(Clone, Copy)]
pub(crate) enum Each {
    /// None.
    New,
    /// This SYN from the same port: the row's SYN is a retransmission.
    Again(Syn),
    /// A connection from the same port, which the server holds in `TIME_WAIT`.
    Reopening,
}

/// The server's answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// A SYN-ACK that acknowledges the SYN only.
    Plain,
    /// As `Plain`, with a primary cookie.
    Cookie,
    /// A SYN-ACK that acknowledges the data.
    Taken,
    /// As `Taken`, with a primary cookie.
    TakenAndCookie,
    Reset,
    Silence,
}

const R: &str = "TCPFastOpenCookieReqd";
const P: &str = "TCPFastOpenPassive";
const PF: &str = "TCPFastOpenPassiveFail";
const A: &str = "TCPFastOpenPassiveAltKey";
const LO: &str = "TCPFastOpenListenOverflow";
const COOKIES: &str = "TCPReqQFullDoCookies";
const SYN_FULL: &str = "TCPReqQFullDrop";
const ACCEPT_FULL: &str = "ListenOverflows";
const DROPPED: &str = "ListenDrops";

/// The kernel counters compared: every one that increases must be in the row. Names of `TcpExt` in
/// `/proc/net/netstat`.
pub(crate) const KERNEL: &[&str] = &[R, P, PF, A, LO, COOKIES, SYN_FULL, ACCEPT_FULL, DROPPED];

const FAST_OPEN: &str = "net.ipv4.tcp_fastopen";
const SYN_COOKIES: &str = "net.ipv4.tcp_syncookies";

/// Sysctls of the server unless the condition sets them.
pub(crate) const DEFAULTS: &[(&str, &str)] = &[(FAST_OPEN, "3"), (SYN_COOKIES, "1")];

const LISTENER: Settings = Settings::FAST_OPEN;
const WITHOUT: Settings = Settings { queue: None, ..LISTENER };
const ZERO: Settings = Settings { queue: Some(0), ..LISTENER };
const TWO_SLOTS: Settings = Settings { queue: Some(2), ..LISTENER };
const SHORT: Settings = Settings { backlog: 1, ..LISTENER };
const TWO: Settings = Settings { backlog: 2, ..LISTENER };
const NO_COOKIE: Settings = Settings { no_cookie: true, ..LISTENER };
const ONE_KEY: Settings = Settings { keys: b"a listener's key", ..LISTENER };
const TWO_KEYS: Settings = Settings { keys: b"a listener's keyanother of its..", ..LISTENER };

/// A condition for first SYNs to a listener.
const fn new(name: &'static str, host: &'static [(&'static str, &'static str)], listener: Settings, before: Before, rows: &'static [Row]) -> Condition {
    Condition { name, host, listener: Some(listener), before, each: Each::New, rows, older: None }
}

const fn row(syns: &'static [Syn], counts: &'static [&'static str], reply: Reply, reason: Option<Counter>) -> Row {
    Row { syns, counts, reply, reason }
}

const ALL: &[Syn] = &[Plain, Data, Request, Primary, Backup, Bad, BadLength];

/// Fast Open without an obstacle.
const FREE: &[Row] = &[
    row(&[Plain, Data], &[], Reply::Plain, None),
    row(&[Request], &[R], Reply::Cookie, None),
    row(&[Primary], &[P], Reply::Taken, None),
    row(&[Backup], &[P, A], Reply::TakenAndCookie, None),
    row(&[Bad], &[PF], Reply::Cookie, Some(ReasonBadCookie)),
    row(&[BadLength], &[PF], Reply::Cookie, Some(ReasonBadLength)),
];

const WITHOUT_COOKIE: &[Row] = &[
    row(&[Plain], &[], Reply::Plain, None),
    row(&[Request], &[R, P], Reply::Taken, None),
    row(&[Data, Primary, Backup, Bad, BadLength], &[P], Reply::Taken, None),
];

const OFF: &[Row] = &[
    row(&[Request], &[R], Reply::Plain, Some(ReasonOff)),
    row(&[Plain, Data, Primary, Backup, Bad, BadLength], &[], Reply::Plain, Some(ReasonOff)),
];

const NOT_HERE: &[Row] = &[
    row(&[Request], &[R], Reply::Plain, Some(ReasonListenerWithout)),
    row(&[Plain, Data, Primary, Backup, Bad, BadLength], &[], Reply::Plain, Some(ReasonListenerWithout)),
];

const QUEUE_FULL: &[Row] = &[
    row(&[Plain], &[], Reply::Plain, None),
    row(&[Request], &[R, LO], Reply::Plain, Some(ReasonQueueFull)),
    row(&[Data, Primary, Backup, Bad, BadLength], &[LO], Reply::Plain, Some(ReasonQueueFull)),
];

const SYN_COOKIE: &[Row] = &[row(ALL, &[COOKIES], Reply::Plain, Some(ReasonSynCookies))];
const SYN_QUEUE_FULL: &[Row] = &[row(ALL, &[SYN_FULL, DROPPED], Reply::Silence, Some(ReasonSynQueueFull))];
const ACCEPT_QUEUE_FULL: &[Row] = &[row(ALL, &[ACCEPT_FULL, DROPPED], Reply::Silence, Some(ReasonAcceptQueueFull))];
/// The kernel decides to send a SYN cookie, then drops the SYN.
const BOTH_FULL: &[Row] = &[row(ALL, &[COOKIES, ACCEPT_FULL, DROPPED], Reply::Silence, Some(ReasonAcceptQueueFull))];
const CLOSED: &[Row] = &[row(ALL, &[], Reply::Reset, Some(ReasonNoListener))];

/// The answer repeats the SYN-ACK of the first SYN: a request accepts no data, an accepted cookie accepts all.
const OF_A_REQUEST: &[Row] = &[row(ALL, &[], Reply::Plain, Some(ReasonRetransmission))];
const OF_A_CHILD: &[Row] = &[row(ALL, &[], Reply::Taken, Some(ReasonRetransmission))];

const OWN_KEY: &[Row] = &[
    row(&[Plain, Data], &[], Reply::Plain, None),
    row(&[Request], &[R], Reply::Cookie, None),
    row(&[Primary], &[P], Reply::Taken, None),
    row(&[OfTheHost, Backup, Bad], &[PF], Reply::Cookie, Some(ReasonBadCookie)),
    row(&[BadLength], &[PF], Reply::Cookie, Some(ReasonBadLength)),
];

const OWN_KEYS: &[Row] = &[
    row(&[Request], &[R], Reply::Cookie, None),
    row(&[Primary], &[P], Reply::Taken, None),
    row(&[Backup], &[P, A], Reply::TakenAndCookie, None),
    row(&[OfTheHost, Bad], &[PF], Reply::Cookie, Some(ReasonBadCookie)),
    row(&[BadLength], &[PF], Reply::Cookie, Some(ReasonBadLength)),
];

pub(crate) const TABLE: &[Condition] = &[
    new("nothing in the way", &[], LISTENER, Before::Nothing, FREE),
    new("no-cookie host", &[(FAST_OPEN, "515")], LISTENER, Before::Nothing, WITHOUT_COOKIE),
    new("no-cookie listener", &[], NO_COOKIE, Before::Nothing, WITHOUT_COOKIE),
    new("bit 0x2 clear", &[(FAST_OPEN, "1")], LISTENER, Before::Nothing, OFF),
    new("bit 0x200 without 0x2", &[(FAST_OPEN, "513")], LISTENER, Before::Nothing, OFF),
    new("bit 0x2 clear, no-cookie listener", &[(FAST_OPEN, "1")], NO_COOKIE, Before::Nothing, OFF),
    new("listener without Fast Open", &[], WITHOUT, Before::Nothing, NOT_HERE),
    new("listener without Fast Open, no-cookie host", &[(FAST_OPEN, "515")], WITHOUT, Before::Nothing, NOT_HERE),
    new("bit 0x400", &[(FAST_OPEN, "1027")], WITHOUT, Before::Nothing, FREE),
    new("TCP_FASTOPEN = 0", &[], ZERO, Before::Nothing, NOT_HERE),
    new("Fast Open queue full", &[], TWO_SLOTS, Before::Accepted(2), QUEUE_FULL),
    new("Fast Open queue full, no-cookie host", &[(FAST_OPEN, "515")], TWO_SLOTS, Before::Accepted(2), QUEUE_FULL),
    new("SYN cookies always", &[(SYN_COOKIES, "2")], LISTENER, Before::Nothing, SYN_COOKIE),
    new("SYN queue as long as the backlog", &[], TWO, Before::Plain(2), &[row(&[Primary], &[P], Reply::Taken, None)]),
    new("SYN queue full", &[], SHORT, Before::Plain(2), SYN_COOKIE),
    new("SYN queue full, no SYN cookies", &[(SYN_COOKIES, "0")], SHORT, Before::Plain(2), SYN_QUEUE_FULL),
    new("accept queue full", &[], SHORT, Before::Accepted(2), ACCEPT_QUEUE_FULL),
    new("accept queue full, SYN cookies always", &[(SYN_COOKIES, "2")], SHORT, Before::Accepted(2), BOTH_FULL),
    Condition { name: "closed port", host: &[], listener: None, before: Before::Nothing, each: Each::New, rows: CLOSED, older: None },
    Condition {
        name: "request exists",
        host: &[],
        listener: Some(LISTENER),
        before: Before::Nothing,
        each: Each::Again(Plain),
        rows: OF_A_REQUEST,
        older: None,
    },
    Condition {
        name: "child exists",
        host: &[],
        listener: Some(LISTENER),
        before: Before::Nothing,
        each: Each::Again(Primary),
        rows: OF_A_CHILD,
        older: None,
    },
    new("a key of the listener", &[], ONE_KEY, Before::Nothing, OWN_KEY),
    new("two keys of the listener", &[], TWO_KEYS, Before::Nothing, OWN_KEYS),
    Condition {
        name: "out of TIME_WAIT",
        host: &[],
        listener: Some(LISTENER),
        before: Before::Nothing,
        each: Each::Reopening,
        rows: FREE,
        older: None,
    },
    Condition {
        name: "out of TIME_WAIT, SYN cookies always",
        host: &[(SYN_COOKIES, "2")],
        listener: Some(LISTENER),
        before: Before::Nothing,
        each: Each::Reopening,
        rows: FREE,
        older: Some(((6, 10), SYN_COOKIE)),
    },
];
