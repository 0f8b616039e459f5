//! A guarded server and its client.

use std::process::Command;

use anyhow::{Context as _, Result, ensure};
use tfo_common::counters::{Counter, Counters};
use tfo_testbed::{
    process,
    socket::{Connection, Listener, Method, Terms},
    testbed::Testbed,
    tfo,
    veth::{CLIENT_INTERFACE, Family, NOBODYS_MAC, Pair, server_port},
    xdp::{Mode, Other},
};
use tfo_userspace::{
    datapath::{Namespace, NamespaceError},
    model::PortState,
};

/// Generates a test for each mode, in a module of the function's name.
macro_rules! in_each_mode {
    ($($check:ident;)*) => {$(
        mod $check {
            use tfo_testbed::xdp::Mode;

            #[test]
            fn native() -> anyhow::Result<()> {
                super::$check(Mode::Native)
            }

            #[test]
            fn generic() -> anyhow::Result<()> {
                super::$check(Mode::Generic)
            }

            #[test]
            fn tc() -> anyhow::Result<()> {
                super::$check(Mode::Tc)
            }
        }
    )*};
}

pub(super) use in_each_mode;

/// A rate above that of any test.
pub(crate) const PLENTY: &str = "1000000/s";

/// Number of [`Family::spare`] addresses.
const SPARES: u8 = 200;

/// A testbed with `tfo` as an XDP program on the server's interface.
pub(crate) struct GuardTestbed {
    pub(crate) base: Testbed,
    pub(crate) mode: Mode,
    /// With native XDP, veth delivers `XDP_TX` frames only if the peer has an XDP program, too.
    _client: Option<Other>,
}

impl GuardTestbed {
    pub(crate) fn new(mode: Mode) -> Result<Self> {
        Self::on(Pair::new()?, mode)
    }

    pub(crate) fn on(pair: Pair, mode: Mode) -> Result<Self> {
        // The guard answers where the kernel could: at neighbours that it knows.
        for family in Family::BOTH {
            let spares = (0..SPARES).map(|number| family.spare(number));
            pair.set_neighbours(spares, NOBODYS_MAC)?;
        }
        let native = mode == Mode::Native;
        let client = native.then(|| Other::attach(&pair.client, CLIENT_INTERFACE));
        let base = Testbed::attach(pair, &["--mode", &mode.to_string()])?;
        Ok(Self {
            base,
            mode,
            _client: client.transpose()?,
        })
    }

    /// Runs `tfo guard set` for this port with rates that one client does not exceed. `rates` override them.
    pub(crate) fn guard(&self, port: u16, mode: &str, rates: &[&str]) -> Result<()> {
        let port = port.to_string();
        let mut arguments = vec!["guard", "set", mode, "--port", &port];
        for rate in ["--replies", "--proven"] {
            if !rates.contains(&rate) {
                arguments.extend([rate, PLENTY]);
            }
        }
        arguments.extend(rates);
        self.base.tfo.done(&arguments).map(drop)
    }

    /// As [`Self::guard`] with mode `on`, and time slots of 2^`shift` ns.
    pub(crate) fn guard_with_slots(&self, port: u16, shift: Option<u32>) -> Result<()> {
        let server = &self.base.pair.server;
        let mut command = Command::new(tfo::binary());
        command.args(["guard", "set", "on", "--port", &port.to_string()]);
        command.args(["--replies", PLENTY, "--proven", PLENTY]);
        command.args(["--netns", server.name()]);
        command.envs(shift.map(|shift| ("TFO_TEST_GUARD_SLOT_SHIFT", shift.to_string())));
        process::succeed(&mut command, tfo::LIMIT).map(drop)
    }

    /// The data path's counters.
    pub(crate) fn counters(&self) -> Result<Counters> {
        Ok(self.base.drift()?.ours.total)
    }

    /// The guard's state at the port.
    pub(crate) fn state(&self, port: u16) -> Result<PortState> {
        let server = &self.base.pair.server;
        let state =
            server.run(|| Ok::<_, NamespaceError>(Namespace::current()?.guard().state()?))?;
        let ports = state.context("no guard")?.ports;
        let found = ports.into_iter().find(|state| state.port == port);
        found.with_context(|| format!("no rule of port {port}"))
    }
}

/// Increases of the guard's counters.
pub(crate) fn grown(before: &Counters, after: &Counters) -> Vec<(Counter, u64)> {
    let of = |counter| (counter, after.get(counter) - before.get(counter));
    let changes = Counter::GUARD.into_iter().map(of);
    changes.filter(|(_, count)| *count > 0).collect()
}

/// A connection from the client to `listener`, after a request and its reply.
pub(crate) struct Ends {
    pub(crate) client: Connection,
    pub(crate) server: Connection,
}

impl Ends {
    pub(crate) fn connect(
        pair: &Pair,
        listener: &Listener,
        family: Family,
        method: Method,
    ) -> Result<Self> {
        const REQUEST: &[u8] = b"who goes there?";
        let server = server_port(family, listener.port());
        let client = Connection::open(&pair.client, server, method, REQUEST)?;
        let server = listener.accept()?;
        let came = server.receive()?;
        ensure!(came == REQUEST, "the server read {came:?}");
        server.send(b"a friend")?;
        let came = client.receive()?;
        ensure!(came == b"a friend", "the client read {came:?}");
        Ok(Self { client, server })
    }

    /// The negotiated parameters, by the client's kernel and by the server's.
    pub(crate) fn terms(&self) -> Result<[Terms; 2]> {
        Ok([self.client.terms()?, self.server.terms()?])
    }
}
