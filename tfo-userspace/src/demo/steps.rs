//! The steps of the demo, in their order.

/// A step.
#[derive(Clone, Copy, Debug)]
pub struct DemoStep {
    /// A short name, for errors and JSON.
    pub name: &'static str,
    /// The command that does the same on a host; `None` for connections.
    pub command: Option<&'static str>,
    /// The point that it shows.
    pub shows: &'static str,
    pub(super) change: Change,
}

#[derive(Clone, Copy, Debug)]
pub(super) enum Change {
    /// The client connects and sends a request.
    Connect { fast_open: bool, in_syn: bool },
    /// A new key, with the old one as the backup.
    Rotate,
    /// A new key alone.
    Replace,
}

const PLAIN: Change = Change::Connect {
    fast_open: false,
    in_syn: false,
};
const AFTER_HANDSHAKE: Change = Change::Connect {
    fast_open: true,
    in_syn: false,
};
const IN_SYN: Change = Change::Connect {
    fast_open: true,
    in_syn: true,
};

const fn connection(name: &'static str, change: Change, shows: &'static str) -> DemoStep {
    DemoStep {
        name,
        command: None,
        shows,
        change,
    }
}

const fn keys(command: &'static str, change: Change, shows: &'static str) -> DemoStep {
    DemoStep {
        name: command,
        command: Some(command),
        shows,
        change,
    }
}

/// All steps: each expects what the ones before it left.
pub const STEPS: [DemoStep; 9] = [
    connection(
        "plain",
        PLAIN,
        "no Fast Open: the request follows the handshake",
    ),
    connection(
        "request",
        AFTER_HANDSHAKE,
        "the client asks for a cookie, and the server gives one",
    ),
    connection(
        "cookie",
        IN_SYN,
        "the request is in the SYN, with the cookie, and the server takes it",
    ),
    keys(
        "tfo keys rotate",
        Change::Rotate,
        "new cookies come from a new key; cookies of the old key stay valid",
    ),
    connection(
        "old key",
        IN_SYN,
        "the old key's cookie is accepted, and replaced",
    ),
    connection("new key", IN_SYN, "the new key's cookie is accepted"),
    keys(
        "tfo keys set",
        Change::Replace,
        "an unrelated key; no earlier cookie is valid",
    ),
    connection(
        "wrong cookie",
        AFTER_HANDSHAKE,
        "the cookie is refused, and replaced; the request follows the handshake",
    ),
    connection(
        "recovered",
        IN_SYN,
        "the replaced cookie is accepted: nothing was lost but a round trip",
    ),
];
