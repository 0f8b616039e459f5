//! The conditions.

use tfo_common::counters::Counter::{self, ReasonAcceptQueueFull, ReasonBadCookie, ReasonBadLength, ReasonListenerWithout, ReasonNoListener, ReasonOff, ReasonQueueFull, ReasonRetransmission, ReasonSynCookies, ReasonSynQueueFull};
use tfo_testbed::socket::Settings;

use Syn::{Backup, Bad, BadLength, Data, OfTheHost, Plain, Primary, Request};

/// One condition: how it comes about, and what each SYN comes to.
pub(crate) struct Condition {
    pub(crate) name: &'static str,
    /// Sysctls of the server, beside [`DEFAULTS`].
    pub(crate) host: &'static [(&'static str, &'static str)],
    /// `None`: nobody listens.
    pub(crate) listener: Option<Settings>,
    pub(crate) before: Before,
    pub(crate) each: Each,
    pub(crate) rows: &'static [Row],
    /// The rows on a kernel before that release of Linux, where they were others.
    pub(crate) older: Option<((u8, u8), &'static [Row])>,
}

/// What these SYNs come to, with and without data.
pub(crate) struct Row {
    pub(crate) syns: &'static [Syn],
    /// The counters among [`KERNEL`] that go up by one.
    pub(crate) counts: &'static [&'static str],
    pub(crate) reply: Reply,
    pub(crate) reason: Option<Counter>,
}

/// A SYN in a word.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Syn {
    /// Nothing of Fast Open, no data.
    Plain,
    /// Nothing of Fast Open, data.
    Data,
    /// It asks for a cookie.
    Request,
    /// A cookie of the first key that the listener goes by.
    Primary,
    /// A cookie of its second key; of the host's second key where it has one key of its own.
    Backup,
    /// A cookie of the host's first key.
    OfTheHost,
    /// Eight bytes that are no cookie.
    Bad,
    /// Six bytes.
    BadLength,
}

/// What fills the listener's queues before the rows are sent.
pub(crate) enum Before {
    Nothing,
    /// So many SYNs that wait for the handshake's end.
    Plain(usize),
    /// So many SYNs that are accepted with their cookie.
    Accepted(usize),
}

/// What goes before each single SYN.
#[derive(Clone, Copy)]
pub(crate) enum Each {
    /// Nothing.
    New,
    /// This SYN from the same port: the row's is a retransmission.
    Again(Syn),
    /// A connection from the same port, of which the server's end is in `TIME_WAIT`.
    Reopening,
}

/// How the server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reply {
    /// With a SYN-ACK for the SYN alone.
    Plain,
    /// The same with the primary cookie.
    Cookie,
    /// With a SYN-ACK for the data, too.
    Taken,
    /// The same with the primary cookie.
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

/// The kernel's counters that a row has to name, if they go up: rows `TcpExt` of `/proc/net/netstat`.
pub(crate) const KERNEL: &[&str] = &[R, P, PF, A, LO, COOKIES, SYN_FULL, ACCEPT_FULL, DROPPED];

const FAST_OPEN: &str = "net.ipv4.tcp_fastopen";
const SYN_COOKIES: &str = "net.ipv4.tcp_syncookies";

/// What holds where a condition says nothing else.
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

/// A condition of a new SYN to a listener.
const fn new(name: &'static str, host: &'static [(&'static str, &'static str)], listener: Settings, before: Before, rows: &'static [Row]) -> Condition {
    Condition { name, host, listener: Some(listener), before, each: Each::New, rows, older: None }
}

const fn row(syns: &'static [Syn], counts: &'static [&'static str], reply: Reply, reason: Option<Counter>) -> Row {
    Row { syns, counts, reply, reason }
}

const ALL: &[Syn] = &[Plain, Data, Request, Primary, Backup, Bad, BadLength];

/// Fast Open as it is meant to be.
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
/// The SYN cookie is decided on first, but not sent any more.
const BOTH_FULL: &[Row] = &[row(ALL, &[COOKIES, ACCEPT_FULL, DROPPED], Reply::Silence, Some(ReasonAcceptQueueFull))];
const CLOSED: &[Row] = &[row(ALL, &[], Reply::Reset, Some(ReasonNoListener))];

/// The answer is to the first SYN, of which the request takes no data and the child takes all.
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
